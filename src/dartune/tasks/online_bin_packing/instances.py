"""Instances: sizes of items that arrive one by one, Weibull-distributed as in FunSearch and LLM4AD, or uniform.

Split llm4ad is LLM4AD's, from its seed. benchmark.json has the 20 instances of OR3 in the OR-library (sizes 20 to 100,
capacity 150), and the uniform ones are like them. Romera-Paredes et al., Nature 625 (2024); Falkenauer, J. of
Heuristics 2 (1996).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Set(NamedTuple):
    """Instances of one kind."""

    n_instances: int
    n_items: int
    seed: int
    sizes: Callable[[np.random.RandomState, int], np.ndarray]
    capacity: int


def weibull(generator: np.random.RandomState, n: int) -> np.ndarray:
    """Return sizes from 1 to 100, of a Weibull distribution of shape 3 and scale 45."""
    return np.round(np.clip(generator.weibull(3, n) * 45, 1, 100))


def uniform(generator: np.random.RandomState, n: int) -> np.ndarray:
    """Return sizes from 20 to 100."""
    return generator.randint(20, 101, n).astype(float)


SPLITS: dict[str, Set | None] = {
    "train": Set(8, 250, 501, weibull, 100),
    "validation": Set(16, 250, 502, weibull, 100),
    "test": Set(16, 250, 503, weibull, 100),
    "shifted_1000": Set(4, 1000, 504, weibull, 100),
    "shifted_uniform": Set(8, 500, 505, uniform, 150),
    "llm4ad": Set(5, 5000, 2024, weibull, 100),
    "benchmark": None,
}
SHIFTED = ("shifted_1000", "shifted_uniform")


def draw(split: str) -> list[dict[str, Any]]:
    """Return the instances of a split, each {"items": float (n,), "capacity": float}."""
    this = SPLITS[split]
    if this is None:
        return [{"items": np.array(items, float), "capacity": 150.0} for items in published().values()]
    generator = np.random.RandomState(this.seed)
    return [
        {"items": this.sizes(generator, this.n_items), "capacity": float(this.capacity)}
        for _ in range(this.n_instances)
    ]


def published() -> dict[str, list[int]]:
    """Return the sizes of the published instances, by name."""
    content: dict[str, list[int]] = json.loads((Path(__file__).parent / "benchmark.json").read_text())
    return content
