"""(1 + lambda) hill climbing: children of the best program so far, by EoH's m1 and m2 in turn. A simple baseline."""

from random import Random

from pydantic import PositiveInt

from dartune.pool.ask_tell import Candidate, Proposal, best
from dartune.pool.prompts import Parent, operator_prompt
from dartune.tasks.task import Task


class Search:
    """Starts from the task's template; a child at least as good as its parent replaces it. n_children: lambda."""

    def __init__(self, task: Task, start: Candidate, *, n_children: PositiveInt) -> None:
        self._task, self._parent, self.size = task, start, n_children

    def ask(self, rng: Random, n: int) -> list[Proposal]:
        """Return n proposals to change the parent, by the two operators in turn."""
        shown = [Parent(self._parent.program or "", self._parent.thought)]
        return [
            Proposal(operator_prompt(self._task, operation, shown), operation, (self._parent.id,))
            for operation in (("m1", "m2")[i % 2] for i in range(n))
        ]

    def tell(self, candidates: list[Candidate], rng: Random) -> None:
        """Make the best of the children and the parent the next parent."""
        self._parent = best([*candidates, self._parent])[0]
