"""The size of the set that the priorities build. Runs outside the program's process and trusts none of its output.

Sets of candidates are Python integers with one bit per candidate: intersecting 2,432 candidates takes 50 ns.
"""

from functools import cache
from typing import Any

import numpy as np

from dartune.programs.decisions import numbers
from dartune.tasks.admissible_set.instances import SPLITS, WEIGHTS, draw

DIRECTION = "maximise"
OBJECTIVE = "set size"

# Sorted triples of codes. Three words of the set must not have a bad triple in every group (FunSearch).
BAD_TRIPLES = frozenset(
    [(0, k, k) for k in range(7)]
    + [(1, 1, 1), (1, 1, 2), (1, 2, 2), (1, 2, 3), (1, 2, 4), (1, 3, 3), (1, 4, 4), (1, 5, 5), (1, 6, 6)]
    + [(2, 2, 2), (2, 3, 3), (2, 4, 4), (2, 5, 5), (2, 6, 6), (3, 3, 3), (3, 3, 4), (3, 4, 4), (3, 4, 5)]
    + [(3, 4, 6), (3, 5, 5), (3, 6, 6), (4, 4, 4), (4, 5, 5), (4, 6, 6), (5, 5, 5), (5, 5, 6), (5, 6, 6)]
    + [(6, 6, 6)]
)
IS_CONSTANT = np.array([True, False, False, False, False, True, True])  # 000, 111 and 222 rotate onto themselves


def prepare(instances: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Return the instances unchanged; the tables of conflicts are computed on first use."""
    return instances


def compute_costs(instances: list[dict[str, np.ndarray]], decisions: list[Any]) -> tuple[list[float], np.ndarray]:
    """Return the size of each set, and the candidates of all sets in the order taken.

    Of equal priorities, the first wins. Raises Refused unless each decision has one number per candidate, which may be
    -inf.
    """
    taken = [build(instance, decision) for instance, decision in zip(instances, decisions, strict=True)]
    sizes = [
        float((3 ** (~IS_CONSTANT[instance["codes"][chosen]]).sum(axis=1)).sum())
        for instance, chosen in zip(instances, taken, strict=True)
    ]
    n_before = np.cumsum([0, *(len(instance["codes"]) for instance in instances)])  # instances may differ in size
    return sizes, np.concatenate([np.array(chosen) + n for n, chosen in zip(n_before, taken, strict=False)])


def build(instance: dict[str, np.ndarray], decision: np.ndarray) -> list[int]:
    """Return the candidates that the greedy set takes under these priorities, in order. Raises Refused; see numbers."""
    priorities = numbers(decision, length=len(instance["codes"]), is_order=True)
    return greedy(np.argsort(-priorities, kind="stable").tolist(), int(instance["n"]), int(instance["w"]))


def greedy(order: list[int], n: int, w: int) -> list[int]:
    """Return the candidates taken, best first. Each rules out others, alone and together with each earlier one.

    order: candidates by falling priority.
    """
    codes, comparable, third = conflicts(n, w)
    alive = (1 << len(codes)) - 1
    taken: list[int] = []
    for element in order:
        if not alive >> element & 1:
            continue
        alive &= ~comparable(element)
        for earlier in taken:
            alive &= ~ruled_out(codes[earlier], codes[element], third)
        taken.append(element)
    return taken


def ruled_out(x: list[int], e: list[int], third: list[list[list[int]]]) -> int:
    """Return the candidates c for which (x, e, c) is a bad triple in every group. x, e: codes. third: see conflicts."""
    dropped = -1
    for group, a, b in zip(third, x, e, strict=True):
        dropped &= group[a][b]
        if not dropped:
            break
    return dropped


@cache
def conflicts(n: int, w: int) -> tuple[list[list[int]], Any, list[list[list[int]]]]:
    """Return the codes of size (n, w), a function `comparable`, and the table third[group][a][b].

    comparable(candidate): those whose weights are all at most, or all at least, the candidate's. third: those that
    complete the codes a and b to a bad triple in a group.
    """
    codes = draw(next(split for split, size in SPLITS.items() if size == (n, w)))[0]["codes"]
    weights = WEIGHTS[codes]

    @cache
    def comparable(element: int) -> int:
        """Return the candidates that cannot be in a set with this one."""
        differences = weights - weights[element]
        return bits(np.all(differences >= 0, axis=1) | np.all(differences <= 0, axis=1))

    third = [[[bits(np.isin(column, completions(a, b))) for b in range(7)] for a in range(7)] for column in codes.T]
    return codes.tolist(), comparable, third


def completions(a: int, b: int) -> list[int]:
    """Return the codes c for which (a, b, c) is a bad triple."""
    return [c for c in range(7) if tuple(sorted((a, b, c))) in BAD_TRIPLES]


def bits(mask: np.ndarray) -> int:
    """Return a boolean mask as an integer with one bit per entry."""
    return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")
