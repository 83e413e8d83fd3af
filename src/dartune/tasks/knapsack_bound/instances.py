"""Instances: knapsacks with five constraints, drawn as by Chu and Beasley (Journal of Heuristics 4, 1998).

A weight is 1 to 1,000, a capacity a share of all items' weights, and a value the item's mean weight and up to 500 more.
"""

from typing import NamedTuple

import numpy as np


class Set(NamedTuple):
    """Knapsacks of one size."""

    n_instances: int
    n_items: int
    n_constraints: int
    seed: int


SPLITS = {
    "train": Set(8, 12, 5, 601),
    "validation": Set(8, 12, 5, 602),
    "test": Set(8, 12, 5, 603),
    "shifted_15x5": Set(3, 15, 5, 604),
    "shifted_12x10": Set(4, 12, 10, 605),
}
SHIFTED = ("shifted_15x5", "shifted_12x10")
TIGHTNESS = (0.3, 0.7)  # the share of all weights that fits, drawn for each constraint


def draw(split: str) -> list[dict[str, np.ndarray]]:
    """Return the instances of a split, each {"values": int64 (n,), "weights": (n, m), "capacities": (m,)}."""
    n_instances, n, m, seed = SPLITS[split]
    generator = np.random.RandomState(seed)
    return [knapsack(n, m, generator) for _ in range(n_instances)]


def knapsack(n: int, m: int, generator: np.random.RandomState) -> dict[str, np.ndarray]:
    """Return a knapsack of n items and m constraints."""
    weights = generator.randint(1, 1001, (n, m))
    tightness = generator.uniform(*TIGHTNESS, m)
    return {
        "weights": weights,
        "capacities": np.floor(tightness * weights.sum(axis=0)).astype(np.int64),
        "values": np.round(weights.mean(axis=1) + 500 * generator.uniform(size=n)).astype(np.int64),
    }
