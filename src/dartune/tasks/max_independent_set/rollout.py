"""Builds a set from the program's choices. Runs in the sandbox with it, so cost.py trusts none of its results."""

from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np

from dartune.programs.verdict import Refused

FUNCTION = "select_next_vertex"
N_ARGUMENTS = 3


def run(program: Callable[..., Any], instance: dict[str, np.ndarray]) -> list[int]:
    """Return the vertices of the set in the order in which they entered. Raises Refused for one that is not left."""
    adjacency = instance["adjacency"]
    is_left = np.ones(len(adjacency), bool)
    degrees = adjacency.sum(axis=1)
    taken: list[int] = []
    while is_left.any():
        vertex = index(program(np.flatnonzero(is_left), degrees.copy(), adjacency))
        if not 0 <= vertex < len(is_left) or not is_left[vertex]:
            raise Refused("infeasible", f"chose vertex {vertex}, which is not available")
        leaves = adjacency[vertex] & is_left
        leaves[vertex] = True
        is_left &= ~leaves
        degrees -= adjacency[leaves].sum(axis=0)
        taken.append(vertex)
    return taken
