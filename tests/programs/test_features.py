"""Traits of programs: what counts as the same text, tree, shape, behaviour."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartune.pairs.datasheet import mean_distance
from dartune.programs.features import traits
from dartune.referee.behaviour import N_BITS, fingerprint, signature
from dartune.referee.referee import Referee
from dartune.tasks.task import Task, names

PROGRAM = """import numpy as np

def priority(el, n, w):
    total = 0.5 * el[0]
    for x in el:
        total += x * n
    return total
"""


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Of two sets of moves, by their signatures."""
    found = mean_distance([list(signature(moves)) for moves in (one, other)])
    assert found is not None
    return found


def of(program: str | None) -> dict[str, object]:
    return traits(program, "priority")


SAME_TREE = {
    "other names": PROGRAM.replace("total", "whole").replace("x", "element"),
    "a comment": PROGRAM.replace("for x", "# each coordinate\n    for x"),
    "a docstring": PROGRAM.replace("w):\n", 'w):\n    """How good a word is."""\n'),
    "annotations": PROGRAM.replace("(el, n, w)", "(el: tuple[int, ...], n: int, w: int) -> float"),
    "another layout": PROGRAM.replace("0.5 * el[0]", "(0.5\n        * el[0])"),
    "another name of the module": PROGRAM.replace("import numpy as np", "import numpy"),
}


@pytest.mark.parametrize("program", SAME_TREE.values(), ids=SAME_TREE)
def test_a_tree_is_the_same_whatever_does_not_change_what_is_computed(program: str) -> None:
    assert of(program)["text"] != of(PROGRAM)["text"]
    assert of(program)["tree"] == of(PROGRAM)["tree"] and of(program)["shape"] == of(PROGRAM)["shape"]


def test_another_constant_is_another_tree_of_the_same_shape() -> None:
    other = of(PROGRAM.replace("0.5", "0.7"))
    assert other["tree"] != of(PROGRAM)["tree"] and other["shape"] == of(PROGRAM)["shape"]


def test_a_constant_of_another_type_is_another_shape() -> None:
    assert of(PROGRAM.replace("0.5", "2"))["shape"] != of(PROGRAM)["shape"]


@pytest.mark.parametrize(
    ("old", "new"),
    [("x * n", "x * w"), ("+=", "-="), ("for x in el", "for x in el[1:]"), ("total = 0.5 * el[0]", "total = 0.5 * n")],
)
def test_what_changes_the_computation_changes_tree_and_shape(old: str, new: str) -> None:
    other = of(PROGRAM.replace(old, new))
    assert other["tree"] != of(PROGRAM)["tree"] and other["shape"] != of(PROGRAM)["shape"]


def test_two_names_that_change_places_are_another_tree() -> None:
    one, other = (f"def priority(el, n, w):\n    a = n\n    b = w\n    return {x}\n" for x in "ab")
    assert of(one)["tree"] != of(other)["tree"]


def test_names_from_outside_count() -> None:
    one, other = (f"def priority(el, n, w):\n    return {f}(el)\n" for f in ("sum", "len"))
    assert of(one)["tree"] != of(other)["tree"]
    one, other = (f"import {m}\n\ndef priority(el, n, w):\n    return {m}.floor(n)\n" for m in ("numpy", "math"))
    assert of(one)["tree"] != of(other)["tree"]


FAMILIES = [
    ("return n", "expression of 1"),
    ("return 1.0", "expression of nothing"),
    ("return n if w else el[0]", "branch of 0,1,2"),
    ("while n: n -= 1\n    return n", "loop of 1"),
    ("return sum(x for x in sorted(el))", "comprehension+sort of 0"),
]


@pytest.mark.parametrize(("body", "family"), FAMILIES)
def test_a_family_names_the_constructs_and_the_arguments_that_are_read(body: str, family: str) -> None:
    assert of(f"def priority(el, n, w):\n    {body}\n")["family"] == family


def test_helpers_are_part_of_the_family() -> None:
    assert (
        of("def half(a):\n    return a / 2\n\ndef priority(el, n, w):\n    return half(n)\n")["family"] == "helper of 1"
    )


def test_what_does_not_parse_has_traits_of_its_text_alone() -> None:
    assert set(of(None).values()) == {None}
    broken = of("def priority(el, n, w:\n")
    assert broken["text"] and broken["n_characters"] == 23
    assert (broken["tree"], broken["shape"], broken["family"]) == (None, None, None)


@pytest.mark.parametrize("program", ["x" * 60_000, "(" * 5000 + ")" * 5000, "x = " + "-" * 20_000 + "1", "\x00"])
def test_a_hostile_text_has_no_tree_and_stops_nobody(program: str) -> None:
    assert of(program)["tree"] is None


def test_equal_moves_of_any_type_have_one_fingerprint_and_signature() -> None:
    moves = np.arange(100)
    assert fingerprint(moves) == fingerprint(moves.astype(np.int16))
    assert signature(moves) == signature(moves[::-1])  # a signature is of the set, a fingerprint of the sequence
    assert fingerprint(moves) != fingerprint(moves[::-1])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100), st.integers(0, 10**6))
def test_the_distance_of_signatures_estimates_moves_not_in_common(n_common: int, seed: int) -> None:
    # 2 x 100 moves, n in common: J = n / (200 - n). A share of 128 bits deviates by at most .044, J by twice that
    moves = np.random.default_rng(seed).choice(10**9, 200, replace=False)
    one, other = moves[:100], moves[100 - n_common : 200 - n_common]
    jaccard = n_common / (200 - n_common)
    assert abs(distance(one, other) - (1 - jaccard)) < 5 * 2 * 0.5 / N_BITS**0.5


def test_one_move_more_or_less_hardly_changes_a_signature() -> None:
    moves = np.random.default_rng(1).choice(10**9, 400, replace=False)
    assert max(distance(moves, np.delete(moves, i)) for i in range(20)) < 0.1


def test_the_first_move_is_a_move_like_any_other() -> None:
    one, other = (np.arange(first, first + 50) * 7 for first in (0, 1000))
    one[0], other[0] = 0, 0
    assert distance(one, other) > 0.6  # 1 of 99 moves in common


PROGRAMS = {  # the body of the template, one that acts alike, and one that does not
    "admissible_set": ("    return 0.0\n", "    return 1.0\n", "    return float(sum(el[:5]))\n"),
    "tsp_construct": (
        "    return unvisited_nodes[0]\n",
        "    return min(unvisited_nodes, key=lambda node: distance_matrix[current_node, node])\n",
        "    return unvisited_nodes[-1]\n",
    ),
    "cvrp_construct": (
        "best_score = -1\n",
        "best_score = -2\n",
        "best_score = -1\n    unvisited_nodes = unvisited_nodes[:2]\n",
    ),
    "job_shop": (
        "    return available[0]\n",
        "    return available.min()\n",
        "    return available[-1]\n",
    ),
    "knapsack_bound": (
        "    return demands / capacities\n",
        "    return 2 * demands / capacities\n",
        "    return demands * 0 + 1.0\n",
    ),
    "online_bin_packing": (
        "    return -np.arange(len(bins), dtype=float)\n",
        "    return np.arange(len(bins), 0, -1)\n",
        "    return item - bins\n",
    ),
    "step_size": (
        "0.9 * error",
        "error ** 0 * 0.9 * error",
        "0.6 * error",
    ),
    "max_independent_set": (
        "    return available[0]\n",
        "    return available.min()\n",
        "    return available[-1]\n",
    ),
}


@pytest.mark.parametrize("task", names())
def test_programs_that_act_alike_have_one_behaviour_and_signature(task: str) -> None:
    old, same, other = PROGRAMS[task]
    template = Task(task).template
    with Referee(Task(task), "train", max_slowdown=1000, memory_mib=512) as referee:
        verdicts = referee.judge([template, template.replace(old, same), template.replace(old, other)])
    assert {verdict.status for verdict in verdicts} == {"ok"}, verdicts
    one, alike, stranger = verdicts
    assert one.behaviour == alike.behaviour != stranger.behaviour and one.signature == alike.signature
    assert (mean_distance([list(each.signature or ()) for each in (one, stranger)]) or 0) > 0.3
