"""Builds routes from the program's choices. Runs in the sandbox with it, so cost.py trusts none of its results."""

from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np

from dartune.programs.verdict import Refused

FUNCTION = "select_next_node"
N_ARGUMENTS = 6


def run(program: Callable[..., Any], instance: dict[str, np.ndarray]) -> list[int]:
    """Return all routes as one walk of node numbers from the depot, 0, which is inserted where no customer fits.

    Raises Refused for a choice that is not possible.
    """
    distances, demands, capacity = instance["distances"], instance["demands"], int(instance["capacity"])
    is_open = np.ones(len(distances), bool)
    is_open[0] = False
    walk, rest = [0], capacity
    while is_open.any():
        fits = np.flatnonzero(is_open & (demands <= rest))
        node = index(program(walk[-1], 0, fits, rest, demands, distances)) if len(fits) else 0
        if node == 0 == walk[-1]:
            raise Refused("infeasible", "stayed at the depot")
        if node != 0 and not (0 < node < len(is_open) and is_open[node] and demands[node] <= rest):
            raise Refused("infeasible", f"chose node {node}, which is served, does not fit or does not exist")
        rest = capacity if node == 0 else rest - int(demands[node])
        is_open[node] = False
        walk.append(node)
    return walk
