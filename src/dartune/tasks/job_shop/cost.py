"""The makespan of schedules. Runs outside the program's process and trusts none of its output."""

from itertools import pairwise
from typing import Any

import numpy as np

from dartune.programs.decisions import integers
from dartune.programs.verdict import Refused

DIRECTION = "minimise"
OBJECTIVE = "makespan"


def prepare(instances: list[dict[str, np.ndarray]]) -> list[tuple[list[list[int]], list[list[int]]]]:
    """Return the machines and times of each instance, as lists."""
    return [(instance["machines"].tolist(), instance["times"].tolist()) for instance in instances]


def compute_costs(
    instances: list[tuple[list[list[int]], list[list[int]]]], decisions: list[Any]
) -> tuple[list[float], np.ndarray]:
    """Return the makespan of each schedule, and its moves: which job follows which on each machine.

    A decision is the order in which operations are started, by their jobs; each starts as soon as its job and its
    machine are free. Raises Refused unless each job is there as often as it has operations.
    """
    costs, moves, n_before = [], [], 0
    for number, ((machines, times), decision) in enumerate(zip(instances, decisions, strict=True)):
        n_jobs, n_operations = len(times), len(times[0])
        order = integers(decision, max_length=n_jobs * n_operations, below=n_jobs)
        if (np.bincount(order, minlength=n_jobs) != n_operations).any():
            raise Refused("infeasible", f"instance {number}: a job is not done, or done too often")
        n_machines = 1 + max(map(max, machines))
        makespan, sequences = simulated(order.tolist(), machines, times, n_machines)
        costs.append(float(makespan))
        for machine, sequence in enumerate(sequences):
            first = n_before + machine * n_jobs**2
            moves += [first + a * n_jobs + b for a, b in pairwise(sequence)]
        n_before += n_machines * n_jobs**2
    return costs, np.array(moves)


def simulated(
    order: list[int], machines: list[list[int]], times: list[list[int]], n_machines: int
) -> tuple[int, list[list[int]]]:
    """Return the makespan, and the jobs on each machine in their order."""
    position, job_free, machine_free = [0] * len(times), [0] * len(times), [0] * n_machines
    sequences: list[list[int]] = [[] for _ in range(n_machines)]
    for job in order:
        operation = position[job]
        machine = machines[job][operation]
        job_free[job] = machine_free[machine] = max(job_free[job], machine_free[machine]) + times[job][operation]
        sequences[machine].append(job)
        position[job] += 1
    return max(job_free), sequences
