"""Items are revealed one by one, of all instances side by side."""

from collections.abc import Generator

import numpy as np
import pytest

from dartune.programs.online import LAST, START, Items, decide


def doubling() -> Generator[int | None, float, None]:
    item = yield None
    while True:
        item = yield round(2 * item)


def test_the_next_items_come_after_the_decisions_on_the_last() -> None:
    items, received = Items([np.array([3.0, 1.0]), np.array([5.0]), np.array([4.0, 2.0, 6.0])]), []

    def reveal(decisions: list[int]) -> list[float]:
        received.append(decisions)
        return items.reveal(decisions)

    made = decide([doubling(), doubling(), doubling()], [2, 1, 3], reveal)
    assert received == [[START], [6, 10, 8], [2, 4], [12]]
    assert made == items.decisions == [[6, 2], [10], [8, 4, 12]]


def test_after_the_last_item_there_is_none() -> None:
    items = Items([[3.0]])
    assert [items.reveal([START]), items.reveal([7]), items.reveal([8])] == [[3.0], [LAST], [LAST]]
    assert items.decisions == [[7]]


@pytest.mark.parametrize(("sent", "noted"), [([1], [[1], []]), ([], [[], []]), ([1, 2, 3], [[1], [2]])])
def test_decisions_that_are_missing_or_too_many_move_no_others(sent: list[int], noted: list[list[int]]) -> None:
    items = Items([[3.0], [4.0]])
    items.reveal([START])
    items.reveal(sent)
    assert items.decisions == noted


def test_instances_are_worked_on_as_if_each_were_alone() -> None:
    sizes = [np.arange(5.0), np.arange(3.0), np.arange(4.0)]
    alone = [decide([doubling()], [len(one)], Items([one]).reveal)[0] for one in sizes]
    assert decide([doubling() for _ in sizes], [5, 3, 4], Items(sizes).reveal) == alone


def test_a_decision_that_was_left_out_is_told_whatever_comes_after() -> None:
    items = Items([[3.0, 1.0], [4.0, 2.0]])
    for sent in ([START], [1], [2, 3], [4, 5], [6, 7]):  # the second instance's first item is not decided on
        assert not items.is_complete
        items.reveal(sent)
    assert not items.is_complete
    whole = Items([[3.0], [4.0, 2.0]])
    decide([doubling(), doubling()], [1, 2], whole.reveal)
    assert whole.is_complete
