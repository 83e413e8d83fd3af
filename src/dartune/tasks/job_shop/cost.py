"""The makespan of schedules. Runs outside the program's process and trusts none of its output."""

from itertools import pairwise
from typing import Any

import numpy as np

from dartune.programs.decisions import integers
from dartune.programs.verdict import Refused

DIRECTION = "minimise"
OBJECTIVE = "makespan"


# Of an instance: the number of machines, and machine and time of each operation of each job.
JobShop = tuple[int, list[list[list[int]]]]


def prepare(instances: list[dict[str, np.ndarray]]) -> list[JobShop]:
    """Return the instances as lists, whose single values are read faster than those of arrays."""
    pairs = [np.stack([instance["machines"], instance["times"]], axis=-1) for instance in instances]
    return [(1 + int(operations[..., 0].max()), operations.tolist()) for operations in pairs]


def compute_costs(instances: list[JobShop], decisions: list[Any]) -> tuple[list[float], np.ndarray]:
    """Return the makespan of each schedule, and its moves: which job follows which on each machine.

    A decision is the order in which operations are started, by their jobs; each starts as soon as its job and its
    machine are free. Raises Refused unless each job is there as often as it has operations.
    """
    costs, moves, n_before = [], [], 0
    for number, ((n_machines, jobs), decision) in enumerate(zip(instances, decisions, strict=True)):
        n_jobs, n_operations = len(jobs), len(jobs[0])
        order = integers(decision, max_length=n_jobs * n_operations, below=n_jobs)
        if (np.bincount(order, minlength=n_jobs) != n_operations).any():
            raise Refused("infeasible", f"instance {number}: a job is not done, or done too often")
        makespan, sequences = simulated(order.tolist(), n_machines, jobs)
        costs.append(float(makespan))
        for machine, sequence in enumerate(sequences):
            first = n_before + machine * n_jobs**2
            moves += [first + a * n_jobs + b for a, b in pairwise(sequence)]
        n_before += n_machines * n_jobs**2
    return costs, np.array(moves)


def simulated(order: list[int], n_machines: int, jobs: list[list[list[int]]]) -> tuple[int, list[list[int]]]:
    """Return the makespan, and the jobs on each machine in their order."""
    job_free, machine_free = [0] * len(jobs), [0] * n_machines
    operations = [iter(job) for job in jobs]
    sequences: list[list[int]] = [[] for _ in range(n_machines)]
    for job in order:
        machine, time = next(operations[job])
        start, is_free = job_free[job], machine_free[machine]
        if is_free > start:  # a call of max() takes longer
            start = is_free
        job_free[job] = machine_free[machine] = start + time
        sequences[machine].append(job)
    return max(job_free), sequences
