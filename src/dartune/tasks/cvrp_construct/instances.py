"""Instances: a depot (node 0) and customers uniform in the unit square, demands 1..9, one vehicle capacity; and set A.

benchmark.json has the 27 instances of set A of CVRPLIB (Augerat et al. 1995), 31 to 79 customers, and their optima.
"""

import json
from pathlib import Path

import numpy as np

from dartune.tasks.plane import distances, rounded_distances

# split: (number of instances, customers, vehicle capacity, seed). llm4ad is LLM4AD's own set (commit e8d848f).
SPLITS: dict[str, tuple[int, int, int, int] | None] = {
    "train": (8, 50, 40, 201),
    "validation": (16, 50, 40, 202),
    "test": (16, 50, 40, 203),
    "shifted_100": (4, 100, 50, 204),
    "llm4ad": (16, 50, 40, 2024),
    "benchmark": None,
}
SHIFTED = ("shifted_100",)


def draw(split: str) -> list[dict[str, np.ndarray]]:
    """Return the instances of a split: {"distances": float64 (n, n), "demands": int64 (n,), "capacity": int64 ()}."""
    sizes = SPLITS[split]
    if sizes is None:
        return published()
    n_instances, n_customers, capacity, seed = sizes
    generator = np.random.RandomState(seed)
    return [one(generator, n_customers + 1, capacity) for _ in range(n_instances)]


def one(generator: np.random.RandomState, n_nodes: int, capacity: int) -> dict[str, np.ndarray]:
    """Draw one instance; node 0 is the depot."""
    points = generator.rand(n_nodes, 2)
    demands = generator.randint(1, 10, size=n_nodes)  # one for the depot too, as in LLM4AD; it is not used
    return {"distances": distances(points), "demands": demands, "capacity": np.array(capacity)}


def published() -> list[dict[str, np.ndarray]]:
    """Return CVRPLIB's instances with distances as fractions of the optimal length, so that each counts alike."""
    content = json.loads((Path(__file__).parent / "benchmark.json").read_text())
    return [
        {
            "distances": rounded_distances(one["points"]) / one["optimum"],
            "demands": np.array(one["demands"]),
            "capacity": np.array(one["capacity"]),
        }
        for one in content.values()
    ]
