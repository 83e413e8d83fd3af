"""What a tour costs. Runs outside the program's process and trusts nothing that comes out of it."""

from typing import Any

import numpy as np

from dartune.verdict import Refused, integers

DIRECTION = "minimise"
OBJECTIVE = "mean tour length"


def settle(instance: dict[str, np.ndarray], decision: Any) -> tuple[float, list[int]]:
    """Length of the closed tour, and the tour. Raises Refused unless every city is visited once, from city 0."""
    distances = instance["distances"]
    tour = integers(decision, max_length=len(distances))
    if tour[:1] != [0] or sorted(tour) != list(range(len(distances))):
        raise Refused("infeasible", f"the tour visits {len(set(tour))} of {len(distances)} cities")
    return float(distances[tour, np.roll(tour, -1)].sum()), tour
