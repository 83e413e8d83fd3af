"""Instances: random and regular graphs, and graphs of the second DIMACS challenge that a rule defines.

An independent set of a graph is a clique of its complement, so the DIMACS graphs, made for cliques, are complemented.
Their clique numbers are known: D. S. Johnson and M. A. Trick (eds.), Cliques, Coloring, and Satisfiability, 1996.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np

# split: (graphs of each kind, vertices, seed). Half are random, with an edge between two vertices with probability 0.1
# or 0.2, half regular, of degree 4 or 6.
SPLITS = {
    "train": (2, 60, 301),
    "validation": (4, 60, 302),
    "test": (4, 60, 303),
    "shifted_40": (2, 40, 304),
    "dimacs": (0, 0, 0),
}
SHIFTED = ("shifted_40",)
PROBABILITIES = (0.1, 0.2)
DEGREES = (4, 6)


def draw(split: str) -> list[dict[str, np.ndarray]]:
    """Return the graphs of a split, each {"adjacency": bool (n, n)}."""
    if split == "dimacs":
        return [{"adjacency": complement()} for complement in DIMACS.values()]
    n_each, n, seed = SPLITS[split]
    generator = np.random.RandomState(seed)
    graphs = [random_graph(n, p, generator) for p in PROBABILITIES for _ in range(n_each)]
    graphs += [regular_graph(n, degree, generator) for degree in DEGREES for _ in range(n_each)]
    return [{"adjacency": graph} for graph in graphs]


def random_graph(n: int, p: float, generator: np.random.RandomState) -> np.ndarray:
    """Return a graph G(n, p)."""
    upper = np.triu(generator.rand(n, n) < p, 1)
    return upper | upper.T


def regular_graph(n: int, degree: int, generator: np.random.RandomState) -> np.ndarray:
    """Return a random regular graph: stubs paired at random, until no vertex is paired with itself or twice."""
    while True:
        adjacency = np.zeros((n, n), bool)
        stubs = np.repeat(np.arange(n), degree)
        while len(stubs):
            stubs = generator.permutation(stubs)
            left = []
            for a, b in stubs.reshape(-1, 2):
                if a == b or adjacency[a, b]:
                    left += [a, b]
                else:
                    adjacency[a, b] = adjacency[b, a] = True
            if len(left) == len(stubs):  # no pair fits
                break
            stubs = np.array(left, int)
        if not len(stubs):
            return adjacency


def hamming(n: int, distance: int) -> np.ndarray:
    """Return the complement of hamming<n>-<distance>: words of n bits, joined there if so many bits differ, or more."""
    words = np.arange(2**n)
    differing = np.unpackbits((words[:, None] ^ words).astype(np.uint8)[..., None], axis=-1).sum(-1)
    return np.asarray((differing < distance) & (differing > 0))


def johnson(n: int, weight: int, distance: int) -> np.ndarray:
    """Return the complement of johnson<n>-<weight>-<distance>: words of n bits, `weight` of them set."""
    words = np.array([[i in chosen for i in range(n)] for chosen in combinations(range(n), weight)])
    differing = (words[:, None] ^ words).sum(-1)
    return np.asarray((differing < distance) & (differing > 0))


DIMACS: dict[str, Callable[[], np.ndarray]] = {
    "hamming6-2": lambda: hamming(6, 2),
    "hamming6-4": lambda: hamming(6, 4),
    "hamming8-4": lambda: hamming(8, 4),
    "johnson8-2-4": lambda: johnson(8, 2, 4),
    "johnson8-4-4": lambda: johnson(8, 4, 4),
    "johnson16-2-4": lambda: johnson(16, 2, 4),
}
CLIQUE_NUMBERS = {
    "hamming6-2": 32,
    "hamming6-4": 4,
    "hamming8-4": 16,
    "johnson8-2-4": 4,
    "johnson8-4-4": 14,
    "johnson16-2-4": 8,
}
