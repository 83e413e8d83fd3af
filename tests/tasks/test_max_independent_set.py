"""Maximum independent sets: graphs, exact optima, known greedy sizes, refusals."""

import numpy as np
import pytest
from references import largest_set

from dartune.programs.verdict import Refused
from dartune.referee.referee import Referee
from dartune.tasks.max_independent_set.cost import compute_costs
from dartune.tasks.max_independent_set.instances import CLIQUE_NUMBERS, DEGREES, DIMACS, draw, regular_graph
from dartune.tasks.task import Task

TASK = Task("max_independent_set")
MIN_DEGREE = """import numpy as np


def select_next_vertex(available, degrees, adjacency):
    return available[np.argmin(degrees[available])]
"""
PATH = np.array([[abs(i - j) == 1 for j in range(5)] for i in range(5)])  # 0 - 1 - 2 - 3 - 4


def judged(program: str, split: str) -> list[float]:
    with Referee(TASK, split, max_slowdown=1000, memory_mib=512) as referee:
        (verdict,) = referee.judge([program])
    assert verdict.status == "ok", verdict
    return list(verdict.costs or ())


@pytest.mark.parametrize("split", TASK.splits)
def test_graphs_are_simple_and_undirected(split: str) -> None:
    for graph in (instance["adjacency"] for instance in draw(split)):
        assert (graph == graph.T).all() and not graph.diagonal().any()


@pytest.mark.parametrize("degree", DEGREES)
def test_regular_graphs_are_regular(degree: int) -> None:
    graph = regular_graph(40, degree, np.random.RandomState(5))
    assert (graph.sum(axis=0) == degree).all()


@pytest.mark.parametrize("number", range(8))
def test_references_are_the_optimum_of_small_graphs(number: int) -> None:
    assert len(largest_set(draw("train")[number])) == TASK.references("train")[number]


def test_references_of_the_dimacs_graphs_are_their_clique_numbers() -> None:
    assert TASK.references("dimacs") == [CLIQUE_NUMBERS[name] for name in DIMACS]
    sizes = [len(instance["adjacency"]) for instance in draw("dimacs")]
    assert sizes == [64, 64, 256, 28, 70, 120]  # as the challenge lists them
    n_edges = [int(np.triu(~instance["adjacency"], 1).sum()) for instance in draw("dimacs")]
    assert n_edges == [1824, 704, 20864, 210, 1855, 5460]


def test_minimum_degree_is_near_the_optimum_and_above_the_template() -> None:
    greedy, first = (judged(program, "validation") for program in (MIN_DEGREE, TASK.template))
    optimum = TASK.references("validation")
    assert all(a <= b for a, b in zip(greedy, optimum, strict=True))
    assert sum(first) < 0.9 * sum(optimum) < 0.93 * sum(optimum) < sum(greedy)


def test_a_path_and_what_is_refused() -> None:
    sizes, moves = compute_costs([PATH, PATH], [np.array([0, 2, 4]), np.array([1, 3])])
    assert sizes == [3.0, 2.0] and moves.tolist() == [0, 2, 4, 6, 8]
    for chosen, reason in (
        ([0, 1], "graph 0: two of the chosen vertices are joined"),
        ([2, 2], "graph 0: a vertex is"),
    ):
        with pytest.raises(Refused, match=reason):
            compute_costs([PATH], [np.array(chosen)])
