"""Programs for the embedded base model to learn from: mostly mediocre, in seven structural families."""

from random import Random

from dartune.tasks import selection
from dartune.tasks.grammar import FACTORS, FRACTIONS, extreme_of, indent, terms_in_order, weighted

# The template as pretraining shows it. A copy: an edit of template.py must not train the embedded model anew.
TEMPLATE = """\
import numpy as np


def select_next_node(current_node: int, destination_node: int, unvisited_nodes: np.ndarray, distance_matrix: np.ndarray) -> int:

    return unvisited_nodes[0]
"""  # noqa: E501
HEAD = [
    "import numpy as np",
    "",
    "",
    "def select_next_node(current_node, destination_node, unvisited_nodes, distance_matrix):",
]
N_NEAR = ("2", "3", "4", "5", "6", "8", "10", "15")


def draw(rng: Random) -> str:
    """One program, as the model is to write it."""
    return selection.program(rng, HEAD, {few: 3, whole: 4, loop: 4, lookahead: 3, stages: 3, branch: 2, sort: 1})


def whole(rng: Random) -> list[str]:
    """An arg-min of a vector over all unvisited nodes."""
    return vector(rng, "unvisited_nodes")


def few(rng: Random) -> list[str]:
    """The same over the k nearest."""
    return [f"near = unvisited_nodes[:{rng.choice(N_NEAR)}]", *vector(rng, "near")]


def stages(rng: Random) -> list[str]:
    """One rule early on the tour, another later."""
    tests = {f"len(unvisited_nodes) > {rng.choice(('5', '10', '15', '20', '30', '40'))}": 1.0}
    return selection.in_stages(rng, tests, [whole, few, simple])


def branch(rng: Random) -> list[str]:
    """A test on the nearest node decides between two rules."""
    test = weighted(
        rng,
        {
            f"a < {rng.choice(FACTORS)} * b": 2,
            f"a > {rng.choice(FACTORS)} * b": 2,
            f"a < {rng.choice(FRACTIONS)}": 1,
            f"b > {rng.choice(FRACTIONS)}": 1,
        },
    )
    node = weighted(rng, {"unvisited_nodes[0]": 3, "unvisited_nodes[-1]": 1})
    return [
        f"a = distance_matrix[current_node, {node}]",
        f"b = distance_matrix[destination_node, {node}]",
        f"if {test}:",
        *indent(simple(rng)),
        *rng.choice([whole, few])(rng),
    ]


def simple(rng: Random) -> list[str]:
    return [f"return unvisited_nodes[{weighted(rng, {'0': 3, '-1': 2, 'len(unvisited_nodes) // 2': 1})}]"]


def sort(rng: Random) -> list[str]:
    """A position in the order of a vector."""
    return selection.at_position(rng, "unvisited_nodes", vector(rng, "unvisited_nodes"))


def vector(rng: Random, nodes: str) -> list[str]:
    """Terms as vectors over nodes, their combination, and the node of its extreme."""
    terms = {
        "a": f"a = distance_matrix[current_node, {nodes}]",
        "b": f"b = distance_matrix[destination_node, {nodes}]",
        "c": f"c = distance_matrix[{nodes}][:, unvisited_nodes].mean(axis=1)",
        "d": f"d = distance_matrix[{nodes}][:, unvisited_nodes].max(axis=1)",
        "e": f"e = distance_matrix[{nodes}].mean(axis=1)",
        "f": f"f = np.sort(distance_matrix[{nodes}][:, unvisited_nodes], axis=1)[:, :{rng.choice(N_NEAR)}].sum(axis=1)",
    }
    return extreme_of(rng, nodes, terms, {"a": 5, "b": 4, "c": 1.5, "d": 0.7, "e": 1, "f": 1.5})


def loop(rng: Random) -> list[str]:
    """The best node by a score computed node by node."""
    terms = {
        "a": "a = distance_matrix[current_node, node]",
        "b": "b = distance_matrix[destination_node, node]",
        "e": "e = distance_matrix[node].mean()",
        "c": "c = distance_matrix[node, unvisited_nodes].mean()",
    }
    return search(rng, terms, terms_in_order(rng, {"a": 5, "b": 4, "e": 1, "c": 2}))


def lookahead(rng: Random) -> list[str]:
    """A loop whose score asks where the tour could go from the node."""
    rest = "distance_matrix[node, unvisited_nodes[unvisited_nodes != node]]"
    terms = {
        "a": "a = distance_matrix[current_node, node]",
        "b": "b = distance_matrix[destination_node, node]",
        "g": f"g = {rest}.{weighted(rng, {'min': 4, 'mean': 1, 'max': 1})}()",
        "h": f"h = np.sort({rest})[:{rng.choice(N_NEAR)}].mean()",
    }
    names = [rng.choice("gh"), *terms_in_order(rng, {"a": 5, "b": 2})]
    return search(rng, terms, rng.sample(names, len(names)))


def search(rng: Random, terms: dict[str, str], names: list[str]) -> list[str]:
    """A loop over all unvisited nodes, the nearest or the farthest."""
    part = weighted(rng, {"": 3, f"[:{rng.choice(N_NEAR)}]": 2, f"[-{rng.choice(N_NEAR)}:]": 0.5})
    return selection.loop(rng, f"unvisited_nodes{part}", "node", terms, names, least=0.67)
