"""Knapsacks: the search finds what exhaustive search, a solver and LLM4AD's table find; refusals."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from references import dual_multipliers, shortest_proof
from scipy.optimize import Bounds, LinearConstraint, milp

from dartune.programs.verdict import Refused
from dartune.tasks.knapsack_bound.branching import branched, multipliers_of, relaxation
from dartune.tasks.knapsack_bound.cost import compute_costs, prepare
from dartune.tasks.knapsack_bound.instances import draw, knapsack
from dartune.tasks.task import Task

TASK = Task("knapsack_bound")
Choose = Callable[..., np.ndarray]
RULES: dict[str, Choose] = {
    "all alike": lambda values, weights, capacities: np.ones(len(capacities)),
    "the first alone": lambda values, weights, capacities: np.eye(len(capacities))[0],
    "by chance": lambda values, weights, capacities: np.random.default_rng(int(values.sum())).random(len(capacities)),
    "very different": lambda values, weights, capacities: np.logspace(300, -320, len(capacities)),
    "by a linear program": dual_multipliers,
}


def optimum(instance: dict[str, np.ndarray]) -> int:
    """The largest value that fits, by HiGHS."""
    values = instance["values"]
    fits = LinearConstraint(instance["weights"].T, ub=instance["capacities"])
    return round(-milp(-values, constraints=fits, integrality=np.ones(len(values)), bounds=Bounds(0, 1)).fun)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("split", ["train", "shifted_12x10"])
def test_any_weights_lead_to_the_best_value(rule: str, split: str) -> None:
    for instance in draw(split)[:4]:
        assert branched(instance, RULES[rule])[0] == optimum(instance)


@pytest.mark.parametrize("rule", RULES)
def test_no_node_is_closed_above_a_better_packing(rule: str) -> None:
    for seed in range(20):
        instance = knapsack(7, 3, np.random.RandomState(seed))
        packings = np.array([*product((0, 1), repeat=7)])
        fits = (packings @ instance["weights"] <= instance["capacities"]).all(axis=1)
        assert branched(instance, RULES[rule])[0] == (packings @ instance["values"])[fits].max()


def test_llm4ads_knapsacks_have_their_known_optimum() -> None:
    # 32 knapsacks of 50 items, one capacity of 100: dynamic programming finds 473.625 in the mean
    generator = np.random.RandomState(2024)
    best = []
    for _ in range(32):
        weights, values = generator.randint(10, 60, 50), generator.randint(1, 101, 50)
        instance = {"values": values, "weights": weights[:, None], "capacities": np.array([100])}
        best.append(branched(instance, RULES["all alike"])[0])
    assert np.mean(best) == 473.625


def test_a_bound_by_hand() -> None:
    # by value for size the items are 2, 0, 1; the first two take 7 of 9, and 2 of the last one's 4 are left: 10 + 6 + 2
    relaxed = relaxation(np.array([6, 4, 10]), np.array([[4], [4], [3]]), np.array([9]), np.array([1.0]))
    assert relaxed.bound == 18 and relaxed.order.tolist() == [2, 0, 1] and relaxed.critical == 1


def test_references_are_nodes_with_multipliers_of_the_linear_relaxation() -> None:
    instances = draw("train")
    decisions = [np.array(shortest_proof(instance)) for instance in instances]
    # HiGHS may come to another of several best multipliers, and so to a few nodes more or less
    costs = compute_costs(prepare(instances), decisions)[0]
    assert np.mean(costs) == pytest.approx(np.mean(TASK.references("train")), rel=0.02)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -0.1], "are not negative, and one is above 0"),
        ([0.0, 0.0], "are not negative, and one is above 0"),
        ([1.0, np.nan], "is not finite"),
        ([1.0], "expected 2 numbers"),
        (["1", "2"], "expected 2 numbers"),
    ],
)
def test_weights_that_give_no_bound_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(Refused, match=message):
        multipliers_of(np.array(weights), 2)


@pytest.mark.parametrize("change", [lambda nodes: nodes[:-1], lambda nodes: np.vstack([nodes, nodes[-1:]])])
def test_more_or_fewer_decisions_than_nodes_are_refused(change: Callable[[np.ndarray], np.ndarray]) -> None:
    instances = draw("train")[:1]
    nodes = np.array(shortest_proof(instances[0])).reshape(-1, 5)
    with pytest.raises(Refused, match="nodes"):
        compute_costs(prepare(instances), [change(nodes).ravel()])
