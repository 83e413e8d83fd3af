"""EoH, evolution of heuristics: a population of programs with their thoughts, and five operators (Liu et al. 2024).

As in the authors' code (FeiLiu36/EoH at 099bde8): i1 writes the first population, in two rounds of its size; then e1,
e2, m1 and m2 take turns, each writing as many children as the population holds; after each turn the best programs with
different scores survive. Parents are drawn by rank. Differences: the parents of one prompt are distinct; scores are
compared exactly, not rounded to five decimals; a child that repeats another costs an evaluation like any other, where
the authors ask again; and a model whose answers are code blocks is asked for no thought, see pool/prompts.py.
"""

from itertools import cycle
from random import Random
from typing import Annotated

from pydantic import Field, PositiveInt

from dartune.pool.ask_tell import Candidate, Proposal, best
from dartune.pool.prompts import Parent, operator_prompt
from dartune.tasks.task import Task

FIRST_ROUNDS = 2
OPERATORS = ("e1", "e2", "m1", "m2")


class Search:
    """population: how many programs survive. n_parents: how many e1 and e2 show; m1 and m2 show one."""

    def __init__(
        self, task: Task, start: Candidate, *, population: PositiveInt, n_parents: Annotated[int, Field(ge=2)]
    ) -> None:
        self._task, self._n_parents, self.size = task, n_parents, population
        self._population: list[Candidate] = []
        self._rounds, self._operators = 0, cycle(OPERATORS)
        self._operation = "i1"

    def ask(self, rng: Random, n: int) -> list[Proposal]:
        """Return n proposals of the operator whose turn it is."""
        return [self._proposal(rng) for _ in range(n)]

    def _proposal(self, rng: Random) -> Proposal:
        n_parents = {"i1": 0, "e1": self._n_parents, "e2": self._n_parents}.get(self._operation, 1)
        parents = self._parents(rng, n_parents)
        shown = [Parent(parent.program or "", parent.thought) for parent in parents]
        prompt = operator_prompt(self._task, self._operation, shown)
        return Proposal(prompt, self._operation, tuple(parent.id for parent in parents))

    def _parents(self, rng: Random, n: int) -> list[Candidate]:
        """Return at most n distinct parents, drawn with weights 1 / (rank + size of the population); rank 1 is best."""
        rest, parents = list(self._population), list[Candidate]()
        while rest and len(parents) < n:
            weights = [1 / (self._population.index(c) + 1 + len(self._population)) for c in rest]
            parents += rng.choices(rest, weights)
            rest.remove(parents[-1])
        return parents

    def tell(self, candidates: list[Candidate], rng: Random) -> None:
        """Keep the best programs with different scores; go on to the next operator once there are any."""
        self._rounds += 1
        by_score: dict[float | None, Candidate] = {}
        for candidate in best([*self._population, *candidates]):
            by_score.setdefault(candidate.score, candidate)
        self._population = list(by_score.values())[: self.size]
        if self._rounds >= FIRST_ROUNDS and self._population:
            self._operation = next(self._operators)
