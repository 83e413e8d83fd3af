"""The length of tours. Runs outside the program's process and trusts none of its output."""

from typing import Any

import numpy as np

from dartune.programs.decisions import integers
from dartune.programs.verdict import Refused

DIRECTION = "minimise"
OBJECTIVE = "mean tour length"


def prepare(instances: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Return the distances of all instances, shape (n_instances, n_cities, n_cities)."""
    return np.stack([instance["distances"] for instance in instances])


def compute_costs(distances: np.ndarray, decisions: list[Any]) -> tuple[list[float], np.ndarray]:
    """Return the length of each closed tour, and the edges of all.

    Raises Refused unless each tour starts at city 0 and visits every city once.
    """
    n_cities = distances.shape[1]
    tours = [integers(decision, max_length=n_cities, below=n_cities) for decision in decisions]
    for number, tour in enumerate(tours):
        if tour[0] != 0 or len(tour) < n_cities or np.bincount(tour).max() > 1:
            visited = len(np.unique(tour))
            raise Refused("infeasible", f"instance {number}: the tour visits {visited} of {n_cities} cities")
    table, instance = np.stack(tours), np.arange(len(tours))[:, None]
    following = np.roll(table, -1, axis=1)
    lengths = distances[instance, table, following].sum(axis=1)
    edges = np.minimum(table, following) * n_cities + np.maximum(table, following)
    return lengths.tolist(), (instance * n_cities**2 + edges).ravel()
