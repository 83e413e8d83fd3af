"""Programs for the embedded base model to learn from: mostly mediocre, in five families over degrees of vertices."""

from random import Random

from dartune.tasks.grammar import combine, extreme_of, indent, terms_in_order, weighted

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
    families = {whole: 4, near: 4, loop: 4, stages: 3, sort: 1}
    (family,) = rng.choices(list(families), list(families.values()))
    return "\n".join(HEAD + indent(family(rng))) + "\n"


def whole(rng: Random) -> list[str]:
    """The extreme of a vector over all vertices that are left."""
    return vector(rng, "available")


def near(rng: Random) -> list[str]:
    """The same over the k first, or the k of fewest or most neighbours."""
    key = weighted(
        rng,
        {
            "degrees[available]": 4,
            "-degrees[available]": 1,
            "adjacency[available].sum(axis=1)": 1,
            "available": 1,
        },
    )
    return [f"order = np.argsort({key})", f"near = available[order[:{rng.choice(N_NEAR)}]]", *vector(rng, "near")]


def stages(rng: Random) -> list[str]:
    """One rule while there is much left, another later."""
    test = weighted(
        rng,
        {
            f"len(available) > {rng.choice(N_LEFT)}": 3,
            f"degrees[available].max() > {rng.choice(N_NEAR)}": 2,
            f"degrees[available].min() < {rng.choice(N_NEAR[:3])}": 1,
        },
    )
    early, late = (rng.choice([whole, near, loop])(rng) for _ in range(2))
    return [f"if {test}:", *indent(early), *late]


def sort(rng: Random) -> list[str]:
    """A position in the order of a vector."""
    position = weighted(rng, {"0": 2, "-1": 2, "len(order) // 2": 1, "len(order) // 3": 1})
    return [*vector(rng, "available")[:-1], "order = np.argsort(s)", f"return available[order[{position}]]"]


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
    worst, better = ("1e9", "<") if rng.random() < 0.67 else ("-1e9", ">")
    body = [*(terms[name] for name in sorted(names)), *combine(rng, names, "max", "min"), f"if s {better} best:"]
    body += indent(["best = s", "choice = vertex"])
    return [f"best = {worst}", "choice = available[0]", "for vertex in available:", *indent(body), "return choice"]
