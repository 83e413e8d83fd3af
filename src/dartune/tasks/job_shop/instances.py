"""Instances: job shops with times from 1 to 99 and machines in random order, as Taillard's (1993), and published ones.

benchmark.json has ft06 and ft10 (Muth and Thompson 1963) and la01 to la40 (Lawrence 1984) with their optimal makespans.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

# split: (number of instances, jobs, machines, seed); that of the published ones has none
SPLITS: dict[str, tuple[int, int, int, int] | None] = {
    "train": (8, 10, 6, 401),
    "validation": (16, 10, 6, 402),
    "test": (16, 10, 6, 403),
    "shifted_20x6": (4, 20, 6, 404),
    "benchmark": None,
}
SHIFTED = ("shifted_20x6",)


def draw(split: str) -> list[dict[str, np.ndarray]]:
    """Return the instances of a split, each {"machines", "times": int64 (n_jobs, n_operations)}."""
    sizes = SPLITS[split]
    if sizes is None:
        return [{name: np.array(job_shop[name]) for name in ("machines", "times")} for job_shop in published().values()]
    n_instances, n_jobs, n_machines, seed = sizes
    generator = np.random.RandomState(seed)
    return [
        {
            "times": generator.randint(1, 100, (n_jobs, n_machines)),
            "machines": np.array([generator.permutation(n_machines) for _ in range(n_jobs)]),
        }
        for _ in range(n_instances)
    ]


def published() -> dict[str, dict[str, Any]]:
    """Return {"machines", "times", "optimum"} of the published instances, by name."""
    content: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "benchmark.json").read_text())
    return content
