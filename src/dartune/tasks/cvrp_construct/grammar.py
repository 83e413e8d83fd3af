"""Programs for the embedded base model to learn from: mostly mediocre, in six families, with rules of return."""

from random import Random

from dartune.tasks import selection
from dartune.tasks.grammar import FACTORS, FRACTIONS, extreme_of, indent, terms_in_order, weighted

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
    lines = home(rng) if rng.random() < 0.25 else []
    head = [*HEAD, *indent(lines)]
    return selection.program(rng, head, {whole: 5, near: 3, loop: 5, lookahead: 2, stages: 3, sort: 1})


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
    keys = {
        "distance_matrix[current_node, unvisited_nodes]": 4.0,
        "distance_matrix[depot, unvisited_nodes]": 1.0,
        "-distance_matrix[depot, unvisited_nodes]": 1.0,
        "-demands[unvisited_nodes]": 1.0,
    }
    return [*selection.best_by(rng, "unvisited_nodes", keys, N_NEAR), *vector(rng, "near")]


def stages(rng: Random) -> list[str]:
    """One rule while the vehicle is full, at the depot or far out, another otherwise."""
    tests = {
        f"rest_capacity > {rng.choice(LOADS)}": 3.0,
        "current_node == depot": 3.0,
        f"len(unvisited_nodes) > {rng.choice(LOADS)}": 1.0,
        f"distance_matrix[current_node, depot] > {rng.choice(FRACTIONS)}": 1.0,
    }
    return selection.in_stages(rng, tests, [whole, near])


def sort(rng: Random) -> list[str]:
    """A position in the order of a vector."""
    return selection.at_position(rng, "unvisited_nodes", vector(rng, "unvisited_nodes"))


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
    return search(rng, terms, terms_in_order(rng, {"a": 5, "b": 3, "q": 2, "r": 1, "v": 2}))


def lookahead(rng: Random) -> list[str]:
    """A loop whose score asks what is left to serve near the customer."""
    terms = {
        "a": "a = distance_matrix[current_node, node]",
        "b": "b = distance_matrix[depot, node]",
        "r": "r = demands[node]",
        "g": f"g = np.sort(distance_matrix[node, unvisited_nodes])[:{rng.choice(N_NEAR)}].mean()",
    }
    names = ["g", *terms_in_order(rng, {"a": 5, "b": 2, "r": 1})]
    return search(rng, terms, rng.sample(names, len(names)))


def search(rng: Random, terms: dict[str, str], names: list[str]) -> list[str]:
    """A loop over all customers that fit, which may favour or avoid those of large demand."""
    guard = [f"if demands[node] > {rng.choice(LOADS[:5])}:", f"    s = s * {rng.choice(FACTORS)}"]
    changes = guard if rng.random() < 0.15 else []
    return selection.loop(rng, "unvisited_nodes", "node", terms, names, least=0.67, changes=changes)
