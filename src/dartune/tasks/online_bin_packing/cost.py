"""The number of bins in use. Runs outside the program's process and trusts none of its output."""

from typing import Any

import numpy as np

from dartune.programs.decisions import integers
from dartune.programs.verdict import Refused

DIRECTION = "minimise"
OBJECTIVE = "bins"


def prepare(instances: list[dict[str, Any]]) -> list[tuple[np.ndarray, float]]:
    """Return the items (n,) and the capacity of each instance."""
    return [(instance["items"], instance["capacity"]) for instance in instances]


def compute_costs(instances: list[tuple[np.ndarray, float]], decisions: list[Any]) -> tuple[list[float], np.ndarray]:
    """Return the bins that each instance takes, and its moves: which item lies in which bin, as they came into use.

    A decision is the bin of each item. Raises Refused for items without a bin, and for a bin with too much in it.
    """
    costs, moves, n_before = [], [], 0
    for number, ((items, capacity), decision) in enumerate(zip(instances, decisions, strict=True)):
        n = len(items)
        bins = integers(decision, max_length=n, below=n)
        if len(bins) < n:
            raise Refused("infeasible", f"instance {number}: {n - len(bins)} items are in no bin")
        if (np.bincount(bins, weights=items) > capacity).any():
            raise Refused("infeasible", f"instance {number}: a bin holds more than its capacity")
        _, first, of_item = np.unique(bins, return_index=True, return_inverse=True)
        costs.append(float(len(first)))
        moves.append(n_before + np.arange(n) * n + np.argsort(np.argsort(first))[of_item])
        n_before += n * n
    return costs, np.concatenate(moves)
