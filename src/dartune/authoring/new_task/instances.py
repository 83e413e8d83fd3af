"""Instances: jobs with hours and weights, uniform between 1 and 10. The same at every call."""

import numpy as np

# split: (number of instances, jobs, seed)
SPLITS = {
    "train": (8, 20, 1),
    "validation": (16, 20, 2),
    "test": (16, 20, 3),
    "shifted_50": (8, 50, 4),
}
SHIFTED = ("shifted_50",)


def draw(split: str) -> list[dict[str, np.ndarray]]:
    """Return the instances of a split, each {"hours", "weights": float64 (n_jobs,)}."""
    n_instances, n_jobs, seed = SPLITS[split]
    generator = np.random.RandomState(seed)
    return [
        {"hours": generator.uniform(1, 10, n_jobs), "weights": generator.uniform(1, 10, n_jobs)}
        for _ in range(n_instances)
    ]
