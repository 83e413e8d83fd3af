"""What routes cost. Runs outside the program's process and trusts nothing that comes out of it."""

from itertools import groupby
from typing import Any

import numpy as np

from dartune.verdict import Refused, integers

DIRECTION = "minimise"
OBJECTIVE = "mean total length"


def settle(instance: dict[str, np.ndarray], decision: Any) -> tuple[float, list[int]]:
    """Total length of the routes, and the walk. Raises Refused unless each customer is served once within capacity."""
    distances = instance["distances"]
    walk = integers(decision, max_length=2 * len(distances))
    served = sorted(node for node in walk if node != 0)
    if walk[:1] != [0] or served != list(range(1, len(distances))):
        raise Refused("infeasible", f"the routes serve {len(set(served))} of {len(distances) - 1} customers")
    heaviest = max(load(route, instance["demands"]) for is_route, route in groupby(walk, bool) if is_route)
    if heaviest > instance["capacity"]:
        raise Refused("infeasible", f"a vehicle carries {heaviest}, its capacity is {instance['capacity']}")
    return float(distances[walk, np.roll(walk, -1)].sum()), walk


def load(route: Any, demands: np.ndarray) -> int:
    return int(sum(demands[node] for node in route))
