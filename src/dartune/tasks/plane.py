"""Points in a plane, for tasks of routes."""

import numpy as np
from numpy.typing import ArrayLike


def distances(points: ArrayLike) -> np.ndarray:
    """Return the Euclidean distances of points (n, 2), shape (n, n)."""
    table = np.asarray(points, float)
    lengths: np.ndarray = np.linalg.norm(table[:, None] - table[None], axis=2)
    return lengths


def rounded_distances(points: ArrayLike) -> np.ndarray:
    """Return the distances of points (n, 2), rounded to integers as in TSPLIB (Reinelt 1991), shape (n, n)."""
    return np.floor(distances(points) + 0.5)
