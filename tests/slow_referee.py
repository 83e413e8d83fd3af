"""What the referee says, said slowly: the tasks' rules and costs written down once more, with loops."""

from collections.abc import Callable
from itertools import product
from math import fsum
from typing import Any

import numpy as np

TRIPLES = [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 2), (0, 2, 1), (1, 1, 1), (2, 2, 2)]
WEIGHTS = [0, 1, 1, 2, 2, 3, 3]
BAD = (
    "000 011 022 033 044 055 066 111 112 122 123 124 133 144 155 166 222 233 244 255 266 333 334 344 345 346 355 366 "
    "444 455 466 555 556 566 666"
)


def is_bad(a: int, b: int, c: int) -> bool:
    return "".join(map(str, sorted((a, b, c)))) in BAD.split()


IS_BAD = np.array([[[is_bad(a, b, c) for c in range(7)] for b in range(7)] for a in range(7)])


def admissible_set(program: Callable[..., Any], n: int, w: int) -> list[float]:
    """The size of the set that the greedy rule builds; one instance."""
    words = [word for word in product(range(7), repeat=n // 3) if sum(WEIGHTS[code] for code in word) == w]
    priority = [float(program(tuple(x for code in word for x in TRIPLES[code]), n, w)) for word in words]
    codes = np.array(words)
    weights = np.array(WEIGHTS)[codes]
    is_left = np.ones(len(words), bool)
    taken: list[int] = []
    while is_left.any():
        new = max((i for i in range(len(words)) if is_left[i]), key=lambda i: priority[i])
        is_left &= ~((weights[new] <= weights).all(axis=1) | (weights[new] >= weights).all(axis=1))
        for old in taken:
            is_left &= ~IS_BAD[codes[old], codes[new], codes].all(axis=1)
        taken.append(new)
    return [float(sum(3 ** sum(code not in (0, 5, 6) for code in words[i]) for i in taken))]


def tsp_construct(program: Callable[..., Any], instances: list[dict[str, np.ndarray]]) -> list[float]:
    return [tour_length(program, instance["distances"]) for instance in instances]


def tour_length(program: Callable[..., Any], distances: np.ndarray) -> float:
    tour, unvisited = [0], list(range(1, len(distances)))
    while len(unvisited) > 1:
        unvisited.sort(key=lambda city: distances[tour[-1], city])
        tour.append(int(program(tour[-1], 0, np.array(unvisited), distances.copy())))
        unvisited.remove(tour[-1])
    tour.append(unvisited[0])
    return fsum(distances[a, b] for a, b in zip(tour, [*tour[1:], 0], strict=True))


def cvrp_construct(program: Callable[..., Any], instances: list[dict[str, np.ndarray]]) -> list[float]:
    return [routes_length(program, **instance) for instance in instances]


def routes_length(
    program: Callable[..., Any], distances: np.ndarray, demands: np.ndarray, capacity: np.ndarray
) -> float:
    unserved, here, rest, length = set(range(1, len(distances))), 0, int(capacity), 0.0
    while unserved:
        fits = sorted(node for node in unserved if demands[node] <= rest)
        there = int(program(here, 0, np.array(fits), rest, demands.copy(), distances.copy())) if fits else 0
        assert there != here and (there == 0 or there in fits)
        length += float(distances[here, there])
        rest = int(capacity) if there == 0 else rest - int(demands[there])
        unserved.discard(there)
        here = there
    return length + float(distances[here, 0])
