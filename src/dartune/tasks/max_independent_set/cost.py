"""The size of independent sets. Runs outside the program's process and trusts none of its output."""

from typing import Any

import numpy as np

from dartune.programs.decisions import integers
from dartune.programs.verdict import Refused

DIRECTION = "maximise"
OBJECTIVE = "set size"


def prepare(instances: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    """Return the adjacency matrix (n, n) of each graph."""
    return [instance["adjacency"] for instance in instances]


def compute_costs(graphs: list[np.ndarray], decisions: list[Any]) -> tuple[list[float], np.ndarray]:
    """Return the size of each set, and the vertices of all. Raises Refused for a set with an edge or a vertex twice."""
    sizes, moves, n_before = [], [], 0
    for number, (graph, decision) in enumerate(zip(graphs, decisions, strict=True)):
        chosen = integers(decision, max_length=len(graph), below=len(graph))
        if len(np.unique(chosen)) < len(chosen):
            raise Refused("infeasible", f"graph {number}: a vertex is chosen twice")
        if graph[np.ix_(chosen, chosen)].any():
            raise Refused("infeasible", f"graph {number}: two of the chosen vertices are joined")
        sizes.append(float(len(chosen)))
        moves.append(chosen + n_before)
        n_before += len(graph)
    return sizes, np.concatenate(moves)
