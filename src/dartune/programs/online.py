"""The items of online problems, revealed one by one: the next of an instance when the decision on its last is known.

All instances are worked on side by side, so that one exchange reveals an item of each: with one for every item, a
process that has the items takes longer to answer than most programs to decide.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any

DECISION, ITEM = "q", "d"  # type codes of the arrays that pass between a program's process and the items'
MAX_MESSAGE = 1 << 16  # bytes of such an array
START = -1  # in place of decisions, before the first items
LAST = 0.0  # in place of items, after the last
BEGIN, END = b"b", b"e"  # a worker's requests: the next program, and its decisions as decisions.py encodes them

Decisions = Generator[Any, float, None]  # of a rollout on one instance: None, then numbers
Reveal = Callable[[list[int]], Sequence[float]]


class Items:
    """The items of all instances, and what was decided on those that were revealed.

    instances: the items of each, (n,), in their order.
    """

    def __init__(self, instances: Sequence[Any]) -> None:
        self._instances = instances
        self.decisions: list[list[int]] = [[] for _ in instances]
        self._n_revealed = 0  # of each instance that has as many
        self._waiting: list[int] = []  # instances whose last item was revealed and not decided on

    def reveal(self, decisions: Sequence[int]) -> list[float]:
        """Note the decisions on the items revealed last, and return the next of each instance that has more, or LAST.

        One too many is dropped; one that is missing stands in for none, and leaves is_complete false for good.
        """
        for instance, decision in zip(self._waiting, decisions, strict=False):
            self.decisions[instance].append(decision)
        n = self._n_revealed
        self._waiting = [number for number, items in enumerate(self._instances) if n < len(items)]
        self._n_revealed += 1
        return [float(self._instances[number][n]) for number in self._waiting] or [LAST]

    @property
    def is_complete(self) -> bool:
        """Whether each item was decided on: else decisions may stand where later items were known."""
        return all(len(made) == len(items) for made, items in zip(self.decisions, self._instances, strict=True))


def decide(rollouts: list[Decisions], n_items: list[int], reveal: Reveal) -> list[list[int]]:
    """Return the decisions of rollouts, which yield one for each item that they are sent, on all their items.

    n_items: of each rollout. reveal: takes the decisions on its last answer, or [START], and returns the next item of
    each rollout that has more, in their order.
    """
    made: list[list[int]] = [[] for _ in rollouts]
    for rollout in rollouts:
        if (first := next(rollout)) is not None:
            raise ValueError(f"run yields {first!r} before an item is revealed; expected None")
    decisions = [START]
    for step in range(max(n_items)):
        has_more = [number for number, n in enumerate(n_items) if step < n]
        decisions = [rollouts[number].send(item) for number, item in zip(has_more, reveal(decisions), strict=True)]
        for number, decision in zip(has_more, decisions, strict=True):
            made[number].append(decision)
    reveal(decisions)
    return made
