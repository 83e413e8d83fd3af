"""Independent completions of the task's prompt. Learns nothing, so it needs no referee."""

from random import Random

from dartune.pool.ask_tell import Candidate, Proposal
from dartune.tasks.task import Task


class Search:
    """Proposes the same prompt every time."""

    size = 200

    def __init__(self, task: Task, start: Candidate | None) -> None:
        self._proposal = Proposal(task.prompt, "sample")

    def ask(self, rng: Random, n: int) -> list[Proposal]:
        """Return n equal proposals."""
        return [self._proposal] * n

    def tell(self, candidates: list[Candidate], rng: Random) -> None:
        """Do nothing: results have no effect."""
