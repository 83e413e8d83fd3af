"""Instances: cities uniform in the unit square, and TSPLIB's, as matrices of Euclidean distances of shape (n, n).

benchmark.json has all instances of TSPLIB (Reinelt 1991) below 200 cities that are points in a plane with rounded
Euclidean distances, and their optimal lengths.
"""

import json
from pathlib import Path

import numpy as np

from dartune.tasks.plane import distances, rounded_distances

# split: (number of instances, cities, seed). llm4ad is LLM4AD's own set (commit e8d848f): never train on it.
SPLITS: dict[str, tuple[int, int, int] | None] = {
    "train": (8, 50, 101),
    "validation": (16, 50, 102),
    "test": (16, 50, 103),
    "shifted_20": (8, 20, 104),
    "shifted_100": (4, 100, 105),
    "llm4ad": (16, 50, 2024),
    "benchmark": None,
}
SHIFTED = ("shifted_20", "shifted_100")


def draw(split: str) -> list[dict[str, np.ndarray]]:
    """Return the instances of a split, each {"distances": float64 (n, n)}."""
    sizes = SPLITS[split]
    if sizes is None:
        return published()
    n_instances, n_cities, seed = sizes
    generator = np.random.RandomState(seed)
    cities = [generator.rand(n_cities, 2) for _ in range(n_instances)]
    return [{"distances": distances(points)} for points in cities]


def published() -> list[dict[str, np.ndarray]]:
    """Return TSPLIB's instances with distances as fractions of the optimal length, so that each counts alike."""
    content = json.loads((Path(__file__).parent / "benchmark.json").read_text())
    return [{"distances": rounded_distances(one["points"]) / one["optimum"]} for one in content.values()]
