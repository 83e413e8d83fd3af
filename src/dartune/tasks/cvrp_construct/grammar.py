"""Programs for the embedded base model to learn from: mostly mediocre, in six families, with rules of return."""

from random import Random

from dartune.tasks.grammar import (
    FACTORS,
    FRACTIONS,
    at_position,
    combine,
    extreme_of,
    indent,
    terms_in_order,
    weighted,
)

# The template as pretraining shows it. A copy: an edit of template.py must not train the embedded model anew.
TEMPLATE = """\
import numpy as np


def select_next_node(current_node: int, depot: int, unvisited_nodes: np.ndarray, rest_capacity: int, demands: np.ndarray, distance_matrix: np.ndarray) -> int:

    best_score = -1
    next_node = depot
    for node in unvisited_nodes:
        distance = distance_matrix[current_node][node]
        score = demands[node] / distance if distance > 0 else float("inf")
        if score > best_score:
            best_score = score
            next_node = node
    return next_node
"""  # noqa: E501
HEAD = [
    "import numpy as np",
    "",
    "",
    "def select_next_node(current_node, depot, unvisited_nodes, rest_capacity, demands, distance_matrix):",
]
LOADS = ("2", "3", "4", "5", "6", "8", "10", "15", "20", "30")
N_NEAR = ("2", "3", "5", "8", "10", "15")


def draw(rng: Random) -> str:
    """One program, as the model is to write it."""
    families = {whole: 5, near: 3, loop: 5, lookahead: 2, stages: 3, sort: 1}
    (family,) = rng.choices(list(families), list(families.values()))
    lines = home(rng) if rng.random() < 0.25 else []
    return "\n".join(HEAD + indent(lines + family(rng))) + "\n"


def home(rng: Random) -> list[str]:
    """A rule that ends the route early. Never at the depot, where it would not end at all."""
    test = weighted(
        rng,
        {
            f"rest_capacity < {rng.choice(LOADS)}": 3,
            f"distance_matrix[current_node, depot] < {rng.choice(FRACTIONS)}": 1,
            f"distance_matrix[current_node, unvisited_nodes].min() > {rng.choice(FRACTIONS)}": 1,
        },
    )
    return [f"if current_node != depot and {test}:", "    return depot"]


def whole(rng: Random) -> list[str]:
    """An arg-min of a vector over all customers that fit."""
    return vector(rng, "unvisited_nodes")


def near(rng: Random) -> list[str]:
    """The same over the k nearest to the vehicle or to the depot, or over the k largest demands."""
    key = weighted(
        rng,
        {
            "distance_matrix[current_node, unvisited_nodes]": 4,
            "distance_matrix[depot, unvisited_nodes]": 1,
            "-distance_matrix[depot, unvisited_nodes]": 1,
            "-demands[unvisited_nodes]": 1,
        },
    )
    lines = [f"order = np.argsort({key})", f"near = unvisited_nodes[order[:{rng.choice(N_NEAR)}]]"]
    return lines + vector(rng, "near")


def stages(rng: Random) -> list[str]:
    """One rule while the vehicle is full, at the depot or far out, another otherwise."""
    test = weighted(
        rng,
        {
            f"rest_capacity > {rng.choice(LOADS)}": 3,
            "current_node == depot": 3,
            f"len(unvisited_nodes) > {rng.choice(LOADS)}": 1,
            f"distance_matrix[current_node, depot] > {rng.choice(FRACTIONS)}": 1,
        },
    )
    return [f"if {test}:", *indent(vector(rng, "unvisited_nodes")), *rng.choice([whole, near])(rng)]


def sort(rng: Random) -> list[str]:
    """A position in the order of a vector."""
    return at_position(rng, vector(rng, "unvisited_nodes"))


def vector(rng: Random, nodes: str) -> list[str]:
    """Terms as vectors over nodes, their combination, and the node of its extreme."""
    terms = {
        "a": f"a = distance_matrix[current_node, {nodes}]",
        "b": f"b = distance_matrix[depot, {nodes}]",
        "c": f"c = distance_matrix[{nodes}][:, unvisited_nodes].mean(axis=1)",
        "q": f"q = demands[{nodes}] / rest_capacity",
        "r": f"r = demands[{nodes}]",
        "f": f"f = np.sort(distance_matrix[{nodes}][:, unvisited_nodes], axis=1)[:, :{rng.choice(N_NEAR)}].sum(axis=1)",
    }
    return extreme_of(rng, nodes, terms, {"a": 5, "b": 3, "c": 1, "q": 2, "r": 1, "f": 1})


def loop(rng: Random) -> list[str]:
    """The best customer by a score computed one by one."""
    terms = {
        "a": "a = distance_matrix[current_node, node]",
        "b": "b = distance_matrix[depot, node]",
        "q": "q = demands[node] / rest_capacity",
        "r": "r = demands[node]",
        "v": "v = distance_matrix[current_node, depot] + distance_matrix[depot, node]",
    }
    names = terms_in_order(rng, {"a": 5, "b": 3, "q": 2, "r": 1, "v": 2})
    return search(rng, [terms[name] for name in sorted(names)], names)


def lookahead(rng: Random) -> list[str]:
    """A loop whose score asks what is left to serve near the customer."""
    terms = {
        "a": ["a = distance_matrix[current_node, node]"],
        "b": ["b = distance_matrix[depot, node]"],
        "r": ["r = demands[node]"],
        "g": [f"g = np.sort(distance_matrix[node, unvisited_nodes])[:{rng.choice(N_NEAR)}].mean()"],
    }
    names = ["g", *terms_in_order(rng, {"a": 5, "b": 2, "r": 1})]
    names = rng.sample(names, len(names))
    return search(rng, [line for name in sorted(names) for line in terms[name]], names)


def search(rng: Random, lines: list[str], names: list[str]) -> list[str]:
    """A loop that keeps the customer of the smallest (or largest) s, with or without a fallback to the depot."""
    worst, better = ("1e9", "<") if rng.random() < 0.67 else ("-1e9", ">")
    guard = weighted(rng, {"": 6, f"if demands[node] > {rng.choice(LOADS[:5])}:": 1})
    body = [*lines, *combine(rng, names, "max", "min"), f"if s {better} best:"]
    body += indent(["best = s", "choice = node"])
    if guard:
        body = [guard, *indent([f"bonus = {rng.choice(FACTORS)}"]), "else:", "    bonus = 1.0", *body]
        body = [line.replace(f"if s {better} best", f"if s * bonus {better} best") for line in body]
        body = [line.replace("best = s", "best = s * bonus") for line in body]
    start = [f"best = {worst}", "choice = unvisited_nodes[0]"]
    return [*start, "for node in unvisited_nodes:", *indent(body), "return choice"]
