"""Items are revealed one by one, from an array or by another process."""

import numpy as np
import pytest

from dartune.programs.online import START, Items, revealed


def test_an_item_comes_after_the_decision_on_the_one_before() -> None:
    received: list[int] = []

    def exchange(decision: int) -> float:
        received.append(decision)
        return 10.0 * len(received)

    items = Items(3, exchange)
    for number, item in enumerate(items):
        assert item == 10.0 * (number + 1) and received == [START, 7, 8][: number + 1]
        items.decide(7 + number)
    assert received == [START, 7, 8, 9] and items.decisions == [7, 8, 9]


def test_an_array_is_revealed_anew_each_time() -> None:
    array = np.array([3.0, 1.0])
    for _ in range(2):
        items, seen = revealed(array), []
        assert len(items) == 2 and revealed(items) is items
        for item in items:
            seen.append(item)
            items.decide(0)
        assert seen == [3.0, 1.0]


@pytest.mark.parametrize("n_decisions", [0, 2])
def test_a_rollout_that_does_not_decide_once_is_told(n_decisions: int) -> None:
    items = revealed([1.0, 2.0])
    with pytest.raises(AssertionError, match="once on each item"):
        for _ in items:
            for _ in range(n_decisions):
                items.decide(0)
