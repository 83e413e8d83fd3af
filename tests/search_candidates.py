"""Candidates made by hand, and what a search method proposes after it was told of them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from dartune.pool.ask_tell import Candidate, Proposal
from dartune.pool.search_loop import TEMPLATE_ID, search_class
from dartune.tasks.task import Task

TASK = Task("tsp_construct")
NAME = TASK.function
OPTIONS: dict[str, dict[str, Any]] = {
    "independent": {},
    "climb": {"n_children": 4},
    "eoh": {"population": 4, "n_parents": 2},
    "funsearch": {"n_islands": 3, "n_prompts": 2, "n_samples": 2, "n_versions": 2}
    | {"temperature": 1.0, "period": 10, "reset_every": 12},
}
# chi-square at p = 0.001, by degrees of freedom; the draws are seeded, so nothing here fails by chance
CRITICAL = {1: 10.83, 2: 13.82, 3: 16.27, 5: 20.52}


def program(body: str) -> str:
    return f"def {NAME}(current_node, destination_node, unvisited_nodes, distance_matrix):\n    {body}\n"


def candidate(name: str, score: float | None, *, island: int = -1, **changed: Any) -> Candidate:
    """A program that says its name; costs are the score's on two instances, None for failures."""
    text = program(f"return {name!r}")
    costs = None if score is None else (-score, -score)
    given_fields: dict[str, Any] = {"completion": text, "program": text, "costs": costs} | changed
    return Candidate(id=name, score=score, island=island, **given_fields)


def failures(n: int) -> list[Candidate]:
    return [candidate(f"failure {i}", None) for i in range(n)]


# The start is worse than all other candidates.
TEMPLATE = Candidate(TEMPLATE_ID, TASK.template, TASK.template, -9.0, (9.0, 9.0))


def opened(name: str, **changed: Any) -> Any:
    return search_class(name)(TASK, TEMPLATE, **OPTIONS[name] | changed)


def proposals(search: Any, n: int, seed: int = 0) -> list[Proposal]:
    return list(search.ask(Random(seed), n))


def told(search: Any, *rounds: Sequence[Candidate]) -> Any:
    """The search after these rounds."""
    for number, candidates in enumerate(rounds):
        search.tell(list(candidates), Random(number))
    return search


def shown(search: Any, n: int = 300) -> set[str]:
    """Ids of the programs that come up in n prompts: of eoh and climb, all that it keeps."""
    return {parent for proposal in proposals(search, n) for parent in proposal.parents}


def chi_square(drawn: Iterable[Any], weights: dict[Any, float]) -> float:
    """Of the counts of what was drawn; weights need not add up to 1."""
    counts = Counter(drawn)
    assert set(counts) <= set(weights)
    n, total = sum(counts.values()), sum(weights.values())
    expected = {key: n * weight / total for key, weight in weights.items()}
    return sum((counts[key] - expected[key]) ** 2 / expected[key] for key in weights)
