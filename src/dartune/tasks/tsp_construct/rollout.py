"""Builds a tour from the program's choices. Runs in the sandbox with it, so cost.py trusts none of its results."""

from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np

from dartune.programs.verdict import Refused

FUNCTION = "select_next_node"
N_ARGUMENTS = 4


def run(program: Callable[..., Any], instance: dict[str, np.ndarray]) -> list[int]:
    """Return the tour as city numbers from the start, 0; the last city is forced. Raises Refused for a bad choice."""
    distances = instance["distances"]
    nearest = np.argsort(distances, axis=1)[:, 1:]
    is_open = np.ones(len(distances), bool)
    tour = [0]
    is_open[0] = False
    for _ in range(len(distances) - 2):
        near = nearest[tour[-1]]
        city = index(program(tour[-1], 0, near[is_open[near]], distances))
        if not 0 <= city < len(distances) or not is_open[city]:
            raise Refused("infeasible", f"chose city {city}, which is not among the unvisited ones")
        is_open[city] = False
        tour.append(city)
    return [*tour, int(np.flatnonzero(is_open)[0])]
