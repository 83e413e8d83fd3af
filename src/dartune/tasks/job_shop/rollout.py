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
    n_jobs = len(times)
    position = np.zeros(n_jobs, int)
    job_free, machine_free = [0] * n_jobs, [0] * (1 + int(machines.max()))
    operations = [iter(zip(*job, strict=True)) for job in zip(machines.tolist(), times.tolist(), strict=True)]
    waiting = {job: next(rest) for job, rest in enumerate(operations)}  # machine and time of each job's next operation
    order: list[int] = []
    while waiting:
        starts = {job: max(job_free[job], machine_free[machine]) for job, (machine, _) in waiting.items()}
        start = min(starts.values())
        can_start = [job for job, earliest in starts.items() if earliest == start]
        job = index(program(np.array(can_start), position.copy(), machines, times))
        if job not in can_start:
            raise Refused("infeasible", f"chose job {job}, which cannot start now")
        machine, time = waiting[job]
        job_free[job] = machine_free[machine] = start + time
        position[job] += 1
        order.append(job)
        if following := next(operations[job], None):
            waiting[job] = following
        else:
            del waiting[job]
    return order
