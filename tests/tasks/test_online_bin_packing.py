"""Online bin packing: published results, a packing by hand, refusals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dartune.programs.verdict import Refused
from dartune.referee.referee import Referee
from dartune.tasks.online_bin_packing.cost import compute_costs, prepare
from dartune.tasks.online_bin_packing.instances import draw
from dartune.tasks.task import Task, decisions_on

TASK = Task("online_bin_packing")
BEST_FIT = "def priority(item, bins):\n    return item - bins\n"
SMALL = {"items": np.array([6.0, 5.0, 4.0, 5.0]), "capacity": 10.0}


def test_first_fit_and_best_fit_take_as_many_bins_as_llm4ad_found() -> None:
    with Referee(TASK, "llm4ad", max_slowdown=1000, memory_mib=512) as referee:
        verdicts = referee.judge([TASK.template, BEST_FIT])
    assert [verdict.score for verdict in verdicts] == pytest.approx([-2099.4, -2091.8])
    assert TASK.reference("llm4ad") == pytest.approx(2011.4)


def test_on_or3_best_fit_is_as_far_above_the_bound_as_funsearch_reports() -> None:
    with Referee(TASK, "benchmark", max_slowdown=1000, memory_mib=512) as referee:
        verdicts = referee.judge([TASK.template, BEST_FIT])
    bound = TASK.reference("benchmark")
    assert [round(100 * (-verdict.score / bound - 1), 2) for verdict in verdicts] == [5.74, 5.37]


def bins_of(rule: Callable[..., object], *instances: dict[str, Any]) -> list[list[int]]:
    return list(decisions_on([*instances], TASK.rollout, rule))


@pytest.mark.parametrize("split", [split for split in TASK.splits if split not in ("llm4ad", "benchmark")])
def test_no_rule_beats_the_bound_that_is_the_reference(split: str) -> None:
    instances, references = draw(split), TASK.references(split)
    for rule in (lambda item, bins: -np.arange(len(bins)), lambda item, bins: item - bins):
        costs, _ = compute_costs(prepare(instances), [np.array(each) for each in bins_of(rule, *instances)])
        assert all(bound <= cost <= 1.2 * bound for bound, cost in zip(references, costs, strict=True))


def test_a_packing_by_hand() -> None:
    seen: list[tuple[float, list[float]]] = []

    def last_bin(item: float, bins: np.ndarray) -> np.ndarray:
        seen.append((item, bins.tolist()))
        return np.arange(len(bins))

    assert bins_of(lambda item, bins: item - bins, SMALL) == [[0, 1, 0, 1]]
    assert bins_of(last_bin, SMALL) == [[3, 2, 3, 2]]
    assert seen == [(6, [10] * 4), (5, [10] * 3), (4, [10, 10, 5, 4]), (5, [10, 10, 5])]
    (first, moves), (last, other) = (
        compute_costs(prepare([SMALL]), [np.array(d)]) for d in ([0, 1, 0, 1], [3, 2, 3, 2])
    )
    assert first == last == [2.0] and moves.tolist() == other.tolist()  # the same packing by other numbers of bins


@pytest.mark.parametrize("bins", [[0, 0, 1, 1], [0, 1, 0], [0, 1, 2, 4], [0, 1, 2, -1]])
def test_what_is_no_packing_is_refused(bins: list[int]) -> None:
    with pytest.raises(Refused):
        compute_costs(prepare([SMALL]), [np.array(bins)])


@pytest.mark.parametrize("given", [None, 1.0, [1.0], np.ones((4, 1)), ["a"] * 4, [np.nan, 1, 1, 1]])
def test_other_priorities_than_a_number_for_each_bin_are_refused(given: object) -> None:
    with pytest.raises(Refused):
        bins_of(lambda item, bins: given, SMALL)
