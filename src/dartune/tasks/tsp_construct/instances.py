"""Instances: cities uniform in the unit square, as matrices of Euclidean distances of shape (n, n)."""

import numpy as np

# split: (number of instances, cities, seed). llm4ad is LLM4AD's own set (commit e8d848f): never train on it.
SPLITS = {
    "train": (8, 50, 101),
    "validation": (16, 50, 102),
    "test": (16, 50, 103),
    "shifted_20": (8, 20, 104),
    "shifted_100": (4, 100, 105),
    "llm4ad": (16, 50, 2024),
}
SHIFTED = ("shifted_20", "shifted_100")


def draw(split: str) -> list[dict[str, np.ndarray]]:
    """Return the instances of a split, each {"distances": float64 (n, n)}."""
    n_instances, n_cities, seed = SPLITS[split]
    generator = np.random.RandomState(seed)
    cities = [generator.rand(n_cities, 2) for _ in range(n_instances)]
    return [{"distances": np.linalg.norm(points[:, None] - points[None], axis=2)} for points in cities]
