"""What tours cost. Runs outside the program's process and trusts nothing that comes out of it."""

from typing import Any

import numpy as np

from dartune.decisions import integers
from dartune.verdict import Refused

DIRECTION = "minimise"
OBJECTIVE = "mean tour length"


def prepare(instances: list[dict[str, np.ndarray]]) -> np.ndarray:
    """The distances of all instances, shape (n_instances, n_cities, n_cities)."""
    return np.stack([instance["distances"] for instance in instances])


def settle(distances: np.ndarray, decisions: list[Any]) -> tuple[list[float], bytes]:
    """Lengths of the closed tours, and the tours. Raises Refused unless each visits every city once, from city 0."""
    n_cities = distances.shape[1]
    tours = [integers(decision, max_length=n_cities, below=n_cities) for decision in decisions]
    for number, tour in enumerate(tours):
        if tour[0] != 0 or len(tour) < n_cities or np.bincount(tour).max() > 1:
            visited = len(np.unique(tour))
            raise Refused("infeasible", f"instance {number}: the tour visits {visited} of {n_cities} cities")
    table = np.stack(tours)
    lengths = distances[np.arange(len(table))[:, None], table, np.roll(table, -1, axis=1)].sum(axis=1)
    return lengths.tolist(), table.astype(np.int16).tobytes()
