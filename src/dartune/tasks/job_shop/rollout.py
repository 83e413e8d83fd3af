"""Builds a schedule from the program's choices. Runs in the sandbox with it, so cost.py trusts none of its results."""

from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np

from dartune.programs.verdict import Refused

FUNCTION = "select_next_job"
N_ARGUMENTS = 4


def run(program: Callable[..., Any], instance: dict[str, np.ndarray]) -> list[int]:
    """Return the jobs in the order in which their operations are started, each as often as it has operations.

    Of a job, the next operation is started as soon as the job and its machine are free. Raises Refused for a job whose
    next operation cannot start before all others.
    """
    machines, times = instance["machines"], instance["times"]
    n_jobs, n_operations = times.shape
    position = np.zeros(n_jobs, int)
    job_free, machine_free = np.zeros(n_jobs, int), np.zeros(machines.max() + 1, int)
    order: list[int] = []
    while (is_left := position < n_operations).any():
        left = np.flatnonzero(is_left)
        starts = np.maximum(job_free[left], machine_free[machines[left, position[left]]])
        start = starts.min()
        can_start = set(left[starts == start].tolist())
        job = index(program(np.array(sorted(can_start)), position.copy(), machines, times))
        if job not in can_start:
            raise Refused("infeasible", f"chose job {job}, which cannot start now")
        end = start + times[job, position[job]]
        job_free[job] = machine_free[machines[job, position[job]]] = end
        position[job] += 1
        order.append(job)
    return order
