"""Branch and bound for knapsacks with several constraints, by the bound of one constraint that combines them.

Any weights of the constraints that are not negative give a valid bound (Glover, Operations Research 13, 1965): whatever
a program returns, the search ends with a proof, and only its length depends on the program.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dartune.programs.verdict import Refused

MAX_NODES = 10_000
NEGLIGIBLE = 1e-12  # weight of a constraint beside the largest: 0 is as valid, and no rounding can reach it


class Relaxation(NamedTuple):
    """What the combined constraint says of the free items at a node."""

    bound: float  # on the value of any of them that fit together
    order: np.ndarray  # their positions, by value for the room that they take
    critical: int  # position of the first item in this order that does not fit whole


def relaxation(values: np.ndarray, weights: np.ndarray, capacities: np.ndarray, multipliers: np.ndarray) -> Relaxation:
    """Return Dantzig's bound for the constraint that is the sum of all, each times its multiplier.

    values: (n,). weights: (n, m). capacities, multipliers: (m,).
    """
    sizes, room = weights @ multipliers, capacities @ multipliers
    order = np.argsort(-values / sizes, kind="stable")
    filled = np.cumsum(sizes[order])
    n_whole = int(np.searchsorted(filled, room, side="right"))
    bound = float(values[order[:n_whole]].sum())
    if n_whole == len(order):
        return Relaxation(bound, order, int(order[-1]))
    left = room - (filled[n_whole - 1] if n_whole else 0.0)
    critical = int(order[n_whole])
    return Relaxation(bound + float(values[critical] * left / sizes[critical]), order, critical)


def multipliers_of(weights: np.ndarray, n: int) -> np.ndarray:
    """Return a program's weights of n constraints, the largest 1. Raises Refused for what gives no bound."""
    if weights.shape != (n,) or weights.dtype.kind not in "bif":
        raise Refused("output", f"expected {n} numbers, one for each constraint")
    if not np.isfinite(weights).all():
        raise Refused("nonfinite", "the weight of a constraint is not finite")
    if weights.min() < 0 or weights.max() == 0:
        raise Refused("infeasible", "weights of constraints are not negative, and one is above 0")
    scaled = weights.astype(float) / weights.max()
    return np.where(scaled < NEGLIGIBLE, 0.0, scaled)


def packed(order: np.ndarray, values: np.ndarray, weights: np.ndarray, capacities: np.ndarray) -> int:
    """Return the value of the items that fit when each is taken, in order, if there is room left for it."""
    total, left = 0, capacities.tolist()
    rows = weights.tolist()
    for item in order.tolist():
        if all(weight <= room for weight, room in zip(rows[item], left, strict=True)):
            left = [room - weight for weight, room in zip(rows[item], left, strict=True)]
            total += int(values[item])
    return total


def branched(
    instance: dict[str, np.ndarray], choose: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
) -> tuple[int, list[int]]:
    """Return the largest value that fits, which is proved, and the item on which each node branched, n where none.

    instance: see instances.py. choose: gives the weights (m,) of the constraints from the values (n_free,) and weights
    (n_free, m) of the items that are free and fit, and from the capacities (m,) that are left. Depth first; a node's
    critical item is taken first, then left out. Raises Refused as multipliers_of does, and for more than MAX_NODES.
    """
    values, weights = instance["values"], instance["weights"]
    best = 0
    items: list[int] = []
    nodes = [(np.arange(len(values)), instance["capacities"], 0)]
    while nodes:
        free, capacities, value = nodes.pop()
        best = max(best, value)
        free = free[(weights[free] <= capacities).all(axis=1)]
        if not len(free):
            continue
        if len(items) == MAX_NODES:
            raise Refused("infeasible", f"no proof of the best value within {MAX_NODES} nodes")
        ours = values[free], weights[free], capacities
        relaxed = relaxation(*ours, multipliers_of(choose(*ours), len(capacities)))
        best = max(best, value + packed(relaxed.order, *ours))
        critical = int(free[relaxed.critical])
        is_open = value + np.floor(relaxed.bound * (1 + 1e-9) + 1e-6) > best
        items.append(critical if is_open else len(values))
        if is_open:
            rest = np.delete(free, relaxed.critical)
            nodes += [(rest, capacities, value), (rest, capacities - weights[critical], value + int(values[critical]))]
    return best, items


def replay(decisions: np.ndarray, n_constraints: int) -> Callable[..., np.ndarray]:
    """Return a choose that gives the weights that a program chose. It raises Refused if they end too early."""
    if decisions.dtype.kind != "f" or len(decisions) % n_constraints:
        raise Refused("output", f"expected {n_constraints} numbers for each node")
    nodes = iter(decisions.reshape(-1, n_constraints).tolist())

    def choose(*_: np.ndarray) -> np.ndarray:
        for weights in nodes:
            return np.array(weights)
        raise Refused("infeasible", "the search has more nodes than decisions")

    return choose
