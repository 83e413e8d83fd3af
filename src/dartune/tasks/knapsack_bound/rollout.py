"""Runs a branch and bound with the program's weights. Runs in the sandbox with it, so cost.py trusts no results."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dartune.tasks.knapsack_bound.branching import branched

FUNCTION = "constraint_weights"
N_ARGUMENTS = 3


def run(program: Callable[..., Any], instance: dict[str, np.ndarray]) -> list[float]:
    """Return the weights of the constraints at each node, of one node after the other.

    Raises Refused as branched does.
    """
    decisions: list[float] = []

    def choose(*arguments: np.ndarray) -> np.ndarray:
        weights = np.asarray(program(*(array.copy() for array in arguments)))
        decisions.extend(map(float, weights.ravel().tolist()))
        return weights

    branched(instance, choose)
    return decisions
