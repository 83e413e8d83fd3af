"""Instances: a depot (node 0) and customers uniform in the unit square, demands 1..9, one vehicle capacity."""

import numpy as np

# split: (number of instances, customers, vehicle capacity, seed). llm4ad is LLM4AD's own set (commit e8d848f).
SPLITS = {
    "train": (8, 50, 40, 201),
    "validation": (16, 50, 40, 202),
    "test": (16, 50, 40, 203),
    "shifted_100": (4, 100, 50, 204),
    "llm4ad": (16, 50, 40, 2024),
}
SHIFTED = ("shifted_100",)


def draw(split: str) -> list[dict[str, np.ndarray]]:
    """Return the instances of a split: {"distances": float64 (n, n), "demands": int64 (n,), "capacity": int64 ()}."""
    n_instances, n_customers, capacity, seed = SPLITS[split]
    generator = np.random.RandomState(seed)
    return [one(generator, n_customers + 1, capacity) for _ in range(n_instances)]


def one(generator: np.random.RandomState, n_nodes: int, capacity: int) -> dict[str, np.ndarray]:
    """Draw one instance; node 0 is the depot."""
    points = generator.rand(n_nodes, 2)
    demands = generator.randint(1, 10, size=n_nodes)  # one for the depot too, as in LLM4AD; it is not used
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    return {"distances": distances, "demands": demands, "capacity": np.array(capacity)}
