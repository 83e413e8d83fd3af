"""Builds a schedule from the program's choices. Runs in the sandbox with it, so cost.py trusts none of its results."""

from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np

from dartune.programs.verdict import Refused

FUNCTION = "select_next_job"
N_ARGUMENTS = 3


def run(program: Callable[..., Any], instance: dict[str, np.ndarray]) -> list[int]:
    """Return the jobs in the order in which they are done. Raises Refused for a choice that is not waiting."""
    hours, weights = instance["hours"], instance["weights"]
    is_waiting = np.ones(len(hours), bool)
    order: list[int] = []
    while is_waiting.any():
        job = index(program(np.flatnonzero(is_waiting), hours, weights))
        if not 0 <= job < len(hours) or not is_waiting[job]:
            raise Refused("infeasible", f"chose job {job}, which is not waiting")
        is_waiting[job] = False
        order.append(job)
    return order
