"""What schedules cost. Runs outside the program's process and trusts none of its output."""

from typing import Any

import numpy as np

from dartune.programs.decisions import integers
from dartune.programs.verdict import Refused

DIRECTION = "minimise"
OBJECTIVE = "weighted hours of completion"


def prepare(instances: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Return whatever costs are computed from: here the instances themselves."""
    return instances


def compute_costs(instances: list[dict[str, np.ndarray]], decisions: list[Any]) -> tuple[list[float], np.ndarray]:
    """Return the cost of each schedule, and the moves: which job follows which. Raises Refused for a bad schedule."""
    costs, moves = [], []
    for number, (instance, decision) in enumerate(zip(instances, decisions, strict=True)):
        n_jobs = len(instance["hours"])
        order = integers(decision, max_length=n_jobs, below=n_jobs)
        if len(np.unique(order)) < n_jobs:
            raise Refused("infeasible", f"instance {number}: {len(np.unique(order))} of {n_jobs} jobs are done")
        completed = instance["hours"][order].cumsum()
        costs.append(float((instance["weights"][order] * completed).sum()))
        moves.append(number * n_jobs**2 + order[:-1] * n_jobs + order[1:])
    return costs, np.concatenate(moves)
