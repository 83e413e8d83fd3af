"""The nodes of a branch and bound. Runs outside the program's process and trusts none of its output."""

from typing import Any

import numpy as np

from dartune.programs.verdict import Refused
from dartune.tasks.knapsack_bound.branching import branched, replay

DIRECTION = "minimise"
OBJECTIVE = "nodes"


def prepare(instances: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Return the instances."""
    return instances


def compute_costs(instances: list[dict[str, np.ndarray]], decisions: list[Any]) -> tuple[list[float], np.ndarray]:
    """Return the nodes that each proof takes, and its moves: which item a node branches on after which.

    A decision is the weights of the constraints at each node, of one node after the other. Raises Refused as branched
    does, and for as many as the search has no nodes for.
    """
    costs, moves, n_before = [], [], 0
    for number, (instance, decision) in enumerate(zip(instances, decisions, strict=True)):
        n_items, n_constraints = instance["weights"].shape
        _, items = branched(instance, replay(decision, n_constraints))
        if len(items) * n_constraints != len(decision):
            raise Refused("infeasible", f"instance {number}: the search has {len(items)} nodes, and more decisions")
        costs.append(float(len(items)))
        path = np.array([n_items, *items])
        moves.append(n_before + path[:-1] * (n_items + 1) + path[1:])
        n_before += (n_items + 1) ** 2
    return costs, np.concatenate(moves)
