"""The items of an online problem, revealed one by one: each when the decision on the one before is known."""

import struct
from collections.abc import Callable, Iterator
from typing import Any

DECISION, ITEM = struct.Struct("<q"), struct.Struct("<d")  # what passes between a program's process and the items'
START = -1  # in place of a decision, before the first item
BEGIN, END = b"b", b"e"  # a worker's requests: the next program, and its decisions as decisions.py encodes them


class Items:
    """n items. exchange: takes the decision on the last item, or START, and returns the next; after the last, anything.

    A rollout iterates over them and calls decide() once for each.
    """

    def __init__(self, n: int, exchange: Callable[[int], float]) -> None:
        self._n, self._exchange = n, exchange
        self.decisions: list[int] = []

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[float]:
        self.decisions = []
        for number in range(self._n):
            yield self._exchange(self.decisions[-1] if number else START)
            assert len(self.decisions) == number + 1, "a rollout must decide() once on each item"
        self._exchange(self.decisions[-1])

    def decide(self, decision: int) -> None:
        """Note the decision on the item that was revealed last."""
        self.decisions.append(decision)


def revealed(items: Any) -> Items:
    """Return the items, as they are or out of an array (n,)."""
    if isinstance(items, Items):
        return items
    rest = iter(items)
    return Items(len(items), lambda decision: float(next(rest, 0.0)))
