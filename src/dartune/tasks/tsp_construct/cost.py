"""The length of tours. Runs outside the program's process and trusts none of its output."""

from typing import Any, NamedTuple

import numpy as np

from dartune.programs.decisions import integers
from dartune.programs.verdict import Refused

DIRECTION = "minimise"
OBJECTIVE = "mean tour length"


class Prepared(NamedTuple):
    """Distances (k, n, n) of k instances, n the most cities, 0 beyond an instance's own; and the cities of each."""

    distances: np.ndarray
    sizes: list[int]


def prepare(instances: list[dict[str, np.ndarray]]) -> Prepared:
    """Return the distances of all instances."""
    sizes = [len(instance["distances"]) for instance in instances]
    distances = np.zeros((len(instances), max(sizes), max(sizes)))
    for table, size, instance in zip(distances, sizes, instances, strict=True):
        table[:size, :size] = instance["distances"]
    return Prepared(distances, sizes)


def compute_costs(prepared: Prepared, decisions: list[Any]) -> tuple[list[float], np.ndarray]:
    """Return the length of each closed tour, and the edges of all.

    Raises Refused unless each tour starts at city 0 and visits every city once.
    """
    distances, n_cities = prepared.distances, prepared.distances.shape[1]
    table = np.zeros((len(decisions), n_cities), np.int64)  # smaller tours stay at their start
    for number, (decision, size) in enumerate(zip(decisions, prepared.sizes, strict=True)):
        tour = integers(decision, max_length=size, below=size)
        if tour[0] != 0 or len(tour) < size or np.bincount(tour).max() > 1:
            visited = len(np.unique(tour))
            raise Refused("infeasible", f"instance {number}: the tour visits {visited} of {size} cities")
        table[number, :size] = tour
    instance, following = np.arange(len(decisions))[:, None], np.roll(table, -1, axis=1)
    lengths = distances[instance, table, following].sum(axis=1)
    edges = np.minimum(table, following) * n_cities + np.maximum(table, following)
    return lengths.tolist(), (instance * n_cities**2 + edges).ravel()
