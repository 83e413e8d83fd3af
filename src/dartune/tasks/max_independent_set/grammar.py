"""Programs for the embedded base model to learn from: mostly mediocre, in five families over degrees of vertices."""

from random import Random

from dartune.tasks import selection
from dartune.tasks.grammar import extreme_of, terms_in_order

# The template as pretraining shows it. A copy: an edit of template.py must not train the embedded model anew.
TEMPLATE = """\
import numpy as np


def select_next_vertex(available: np.ndarray, degrees: np.ndarray, adjacency: np.ndarray) -> int:

    return available[0]
"""
HEAD = ["import numpy as np", "", "", "def select_next_vertex(available, degrees, adjacency):"]
N_NEAR = ("2", "3", "5", "8", "10", "15")
N_LEFT = ("3", "5", "8", "10", "20", "30")


def draw(rng: Random) -> str:
    """One program, as the model is to write it."""
    return selection.program(rng, HEAD, {whole: 4, near: 4, loop: 4, stages: 3, sort: 1})


def whole(rng: Random) -> list[str]:
    """The extreme of a vector over all vertices that are left."""
    return vector(rng, "available")


def near(rng: Random) -> list[str]:
    """The same over the k first, or the k of fewest or most neighbours."""
    keys = {
        "degrees[available]": 4.0,
        "-degrees[available]": 1.0,
        "adjacency[available].sum(axis=1)": 1.0,
        "available": 1.0,
    }
    return [*selection.best_by(rng, "available", keys, N_NEAR), *vector(rng, "near")]


def stages(rng: Random) -> list[str]:
    """One rule while there is much left, another later."""
    tests = {
        f"len(available) > {rng.choice(N_LEFT)}": 3.0,
        f"degrees[available].max() > {rng.choice(N_NEAR)}": 2.0,
        f"degrees[available].min() < {rng.choice(N_NEAR[:3])}": 1.0,
    }
    return selection.in_stages(rng, tests, [whole, near, loop])


def sort(rng: Random) -> list[str]:
    """A position in the order of a vector."""
    return selection.at_position(rng, "available", vector(rng, "available"))


def vector(rng: Random, vertices: str) -> list[str]:
    """Terms as vectors over vertices, their combination, and the vertex of its extreme."""
    terms = {
        "d": f"d = degrees[{vertices}]",
        "a": f"a = adjacency[{vertices}].sum(axis=1)",
        "m": f"m = adjacency[{vertices}][:, available] @ degrees[available]",
        "q": f"q = (adjacency[{vertices}][:, available] * degrees[available]).max(axis=1)",
        "i": f"i = {vertices} / len(degrees)",
    }
    return extreme_of(rng, vertices, terms, {"d": 5, "a": 2, "m": 3, "q": 1, "i": 1})


def loop(rng: Random) -> list[str]:
    """The best vertex by a score computed one by one."""
    terms = {
        "d": "d = degrees[vertex]",
        "a": "a = adjacency[vertex].sum()",
        "m": "m = degrees[adjacency[vertex]].mean()" if rng.random() < 0.5 else "m = degrees[adjacency[vertex]].sum()",
        "c": f"c = (degrees[adjacency[vertex]] > {rng.choice(N_NEAR)}).sum()",
    }
    names = terms_in_order(rng, {"d": 5, "a": 2, "m": 3, "c": 1})
    return selection.loop(rng, "available", "vertex", terms, names, least=0.67)
