"""FunSearch: islands of programs in clusters, and prompts of the best versions (Romera-Paredes et al. 2024).

As in google-deepmind/funsearch (programs_database.py): each prompt comes from a random island; its versions come from
clusters drawn by a softmax of their scores, whose temperature falls as the island grows; within a cluster, shorter
programs are more likely; at intervals the worse half of the islands is emptied and restarts from the best programs of
survivors. Differences: intervals count evaluations, not hours, so that a search can be repeated; and a cluster's score
is the mean over the instances, not that of the last one.
"""

import math
from random import Random

from pydantic import PositiveFloat, PositiveInt

from dartune.pool.ask_tell import Candidate, Proposal, best
from dartune.pool.prompts import version_prompt
from dartune.tasks.task import Task

Costs = tuple[float, ...] | None


class Search:
    """n_prompts: prompts at a time, each with n_samples completions. n_versions: programs in a prompt.

    temperature: of the softmax over clusters, in the unit of the score; it falls to 0 while an island takes in `period`
    programs, then starts over. reset_every: evaluations between two resets of the worse islands.
    """

    def __init__(
        self,
        task: Task,
        start: Candidate,
        *,
        n_islands: PositiveInt,
        n_prompts: PositiveInt,
        n_samples: PositiveInt,
        n_versions: PositiveInt,
        temperature: PositiveFloat,
        period: PositiveInt,
        reset_every: PositiveInt,
    ) -> None:
        self._task, self._n_samples, self._n_versions = task, n_samples, n_versions
        self._temperature, self._period, self._reset_every = temperature, period, reset_every
        self._islands = [Island(start) for _ in range(n_islands)]
        self._n_results, self.size = 0, n_prompts * n_samples

    def ask(self, rng: Random, n: int) -> list[Proposal]:
        """Return n proposals, n_samples equal ones per prompt."""
        n_prompts = math.ceil(n / self._n_samples)
        return [proposal for _ in range(n_prompts) for proposal in [self._proposal(rng)] * self._n_samples][:n]

    def _proposal(self, rng: Random) -> Proposal:
        number = rng.randrange(len(self._islands))
        island = self._islands[number]
        temperature = self._temperature * (1 - island.n_programs % self._period / self._period)
        versions = island.versions(rng, self._n_versions, temperature)
        prompt = version_prompt(self._task, [version.program or "" for version in versions])
        return Proposal(prompt, "version", tuple(version.id for version in versions), number)

    def tell(self, candidates: list[Candidate], rng: Random) -> None:
        """Add the valid programs to their islands, and reset the worse islands when it is time."""
        for candidate in candidates:
            if candidate.score is not None:
                self._islands[candidate.island].add(candidate)
        before, self._n_results = self._n_results, self._n_results + len(candidates)
        if before // self._reset_every < self._n_results // self._reset_every:
            self._reset(rng)

    def _reset(self, rng: Random) -> None:
        """Restart each island of the worse half from the best program of an island of the better half."""
        order = sorted(self._islands, key=lambda island: (island.best.score, rng.random()))
        worse, better = order[: len(order) // 2], order[len(order) // 2 :]
        for island in worse:
            self._islands[self._islands.index(island)] = Island(rng.choice(better).best)


class Island:
    """Programs in clusters: programs in a cluster have equal costs on every instance."""

    def __init__(self, founder: Candidate) -> None:
        self._clusters: dict[Costs, list[Candidate]] = {}
        self.n_programs, self.best = 0, founder
        self.add(founder)

    def add(self, candidate: Candidate) -> None:
        """Put a valid program into its cluster."""
        self._clusters.setdefault(candidate.costs, []).append(candidate)
        self.n_programs += 1
        self.best = best([self.best, candidate])[0]

    def versions(self, rng: Random, n: int, temperature: float) -> list[Candidate]:
        """Return at most n programs, worst first; several may come from the same cluster."""
        clusters = list(self._clusters.values())
        scores = [cluster[0].score or 0.0 for cluster in clusters]
        drawn = rng.choices(clusters, softmax(scores, temperature), k=min(n, len(clusters)))
        return best([shortish(rng, cluster) for cluster in drawn])[::-1]


def shortish(rng: Random, cluster: list[Candidate]) -> Candidate:
    """Return a random program of a cluster; shorter ones are more likely."""
    lengths = [len(candidate.program or "") for candidate in cluster]
    shares = [-(length - min(lengths)) / (max(lengths) + 1e-6) for length in lengths]
    return rng.choices(cluster, softmax(shares, 1.0))[0]


def softmax(values: list[float], temperature: float) -> list[float]:
    """Return weights proportional to exp(value / temperature); they need not add up to 1."""
    highest = max(values)
    return [math.exp((value - highest) / temperature) for value in values]
