"""The length of routes. Runs outside the program's process and trusts none of its output."""

from typing import Any

import numpy as np

from dartune.programs.decisions import integers
from dartune.programs.verdict import Refused

DIRECTION = "minimise"
OBJECTIVE = "mean total length"


def prepare(instances: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Stack all instances: {"distances": (k, n, n), "demands": (k, n), "capacity": (k,), "sizes": nodes of each (k,)}.

    n: the most nodes, 0 beyond an instance's own. The depot's demand is set to 0.
    """
    sizes = np.array([len(instance["demands"]) for instance in instances])
    demands = np.zeros((len(sizes), sizes.max()), np.int64)
    distances = np.zeros((*demands.shape, sizes.max()))
    for number, (instance, size) in enumerate(zip(instances, sizes, strict=True)):
        demands[number, 1:size] = instance["demands"][1:]
        distances[number, :size, :size] = instance["distances"]
    capacity = np.stack([instance["capacity"] for instance in instances])
    return {"distances": distances, "demands": demands, "capacity": capacity, "sizes": sizes}


def compute_costs(prepared: dict[str, np.ndarray], decisions: list[Any]) -> tuple[list[float], np.ndarray]:
    """Return the total length of each instance's routes, and the edges of all.

    Raises Refused unless every customer is served once and no vehicle exceeds its capacity.
    """
    n_instances, n_nodes = prepared["demands"].shape
    sizes = prepared["sizes"].tolist()
    walks = [integers(walk, max_length=2 * n, below=n) for walk, n in zip(decisions, sizes, strict=True)]
    table = np.zeros((n_instances, max(map(len, walks))), np.int64)  # shorter walks stay at the depot
    for row, walk in zip(table, walks, strict=True):
        row[: len(walk)] = walk
    check_visits(table, prepared["sizes"])
    check_loads(table, prepared)
    instance, following = np.arange(n_instances)[:, None], np.roll(table, -1, axis=1)
    lengths = prepared["distances"][instance, table, following].sum(axis=1)
    edges = instance * n_nodes**2 + np.minimum(table, following) * n_nodes + np.maximum(table, following)
    return lengths.tolist(), edges[table != following]


def check_visits(table: np.ndarray, sizes: np.ndarray) -> None:
    """Raise Refused unless every walk starts at the depot and serves each customer once. sizes: nodes of each."""
    visits = np.stack([np.bincount(walk, minlength=sizes.max())[1:] for walk in table])
    expected = np.arange(1, sizes.max()) < sizes[:, None]
    wrong = (table[:, 0] != 0) | (visits != expected).any(axis=1)
    if wrong.any():
        number = int(wrong.argmax())
        served = np.count_nonzero(visits[number])
        reason = "some twice" if visits[number].max() > 1 else "not from the depot" if table[number, 0] else "no more"
        raise Refused("infeasible", f"instance {number}: serves {served} of {sizes[number] - 1} customers, {reason}")


def check_loads(table: np.ndarray, prepared: dict[str, np.ndarray]) -> None:
    """Raise Refused if a vehicle exceeds its capacity: the load so far minus that at the last depot visit."""
    so_far = np.take_along_axis(prepared["demands"], table, axis=1).cumsum(axis=1)
    at_depot = np.maximum.accumulate(np.where(table == 0, so_far, 0), axis=1)
    heaviest = (so_far - at_depot).max(axis=1)
    over = heaviest > prepared["capacity"]
    if over.any():
        number = int(over.argmax())
        words = f"a vehicle carries {heaviest[number]}, its capacity is {prepared['capacity'][number]}"
        raise Refused("infeasible", f"instance {number}: {words}")
