"""FunSearch does what Romera-Paredes et al. 2024 and programs_database.py say, on candidates made by hand."""

import math
import re
from random import Random
from typing import Any

import pytest

from dartune.pool.methods import funsearch
from dartune.pool.search_loop import TEMPLATE_ID
from search_candidates import (
    CRITICAL,
    NAME,
    OPTIONS,
    TASK,
    TEMPLATE,
    candidate,
    chi_square,
    failures,
    opened,
    proposals,
    shown,
    told,
)

ONE_ISLAND = {"n_islands": 1, "n_versions": 1, "period": 10**9, "reset_every": 10**9}


def by_island(search: Any, n: int = 400) -> dict[int, set[str]]:
    """Ids that come up in n prompts, by island."""
    found: dict[int, set[str]] = {}
    for proposal in proposals(search, n):
        found.setdefault(proposal.island, set()).update(proposal.parents)
    return found


def test_funsearch_starts_from_the_template_on_every_island() -> None:
    assert by_island(opened("funsearch")) == {0: {TEMPLATE_ID}, 1: {TEMPLATE_ID}, 2: {TEMPLATE_ID}}


def test_funsearch_takes_each_prompt_from_an_island_of_equal_chance() -> None:
    asked = proposals(opened("funsearch", n_samples=1), 3000)
    assert chi_square((proposal.island for proposal in asked), {0: 1, 1: 1, 2: 1}) < CRITICAL[2]


def test_funsearch_shows_a_child_on_its_own_island_only() -> None:
    children = [candidate("a", -1.0, island=2), candidate("b", -2.0, island=0)]
    search = told(opened("funsearch", temperature=100.0), children)
    assert by_island(search) == {0: {TEMPLATE_ID, "b"}, 1: {TEMPLATE_ID}, 2: {TEMPLATE_ID, "a"}}


def test_funsearch_forgets_failures() -> None:
    assert by_island(told(opened("funsearch"), failures(4))) == {0: {TEMPLATE_ID}, 1: {TEMPLATE_ID}, 2: {TEMPLATE_ID}}


def test_funsearch_clusters_programs_of_equal_costs_on_every_instance() -> None:
    # a prompt shows no more versions than there are clusters
    same = candidate("same", -9.0, costs=TEMPLATE.costs, island=0)
    search = told(opened("funsearch", n_islands=1), [same])
    assert {len(proposal.parents) for proposal in proposals(search, 50)} == {1}
    assert shown(search) == {TEMPLATE_ID, "same"}
    told(search, [candidate("same mean", -9.0, costs=(8.0, 10.0), island=0)])
    assert {len(proposal.parents) for proposal in proposals(search, 50)} == {2}


def test_funsearch_draws_clusters_by_a_softmax_of_their_scores() -> None:
    # weights exp(score / temperature): at 2.0 exp(-1), exp(-0.5), 1 up to a common factor; a cluster of two counts once
    scores = {"a": -4.0, "b": -3.0, "c": -2.0, "c too": -2.0}
    start = candidate("a", scores["a"])
    search = funsearch.Search(TASK, start, **OPTIONS["funsearch"] | ONE_ISLAND | {"temperature": 2.0, "n_samples": 1})
    told(search, [candidate(name, score, island=0) for name, score in list(scores.items())[1:]])
    drawn = [proposal.parents[0][0] for proposal in proposals(search, 6000)]
    assert chi_square(drawn, {"a": math.exp(-1), "b": math.exp(-0.5), "c": 1.0}) < CRITICAL[2]
    assert chi_square(drawn, {"a": math.exp(-2), "b": math.exp(-1), "c": 1.0}) > CRITICAL[2]  # another temperature
    assert chi_square(drawn, {"a": math.exp(-1), "b": math.exp(-0.5), "c": 2.0}) > CRITICAL[2]  # each program its own


@pytest.mark.parametrize(("n_programs", "share"), [(2, 0.8), (9, 0.1), (10, 1.0), (12, 0.8)])
def test_funsearch_cools_down_while_an_island_takes_in_its_period(n_programs: int, share: float) -> None:
    # period 10: the temperature is 2 * (1 - n % 10 / 10). Two clusters whose scores differ by 0.5: odds exp(0.5 / t)
    start = candidate("a", -1.5)
    changed = ONE_ISLAND | {"period": 10, "temperature": 2.0, "n_samples": 1}
    search = funsearch.Search(TASK, start, **OPTIONS["funsearch"] | changed)
    told(search, [candidate(f"b{i}", -1.0, island=0) for i in range(n_programs - 1)])
    drawn = [proposal.parents[0][0] for proposal in proposals(search, 4000)]
    assert chi_square(drawn, {"a": 1.0, "b": math.exp(0.5 / (2 * share))}) < CRITICAL[1]


def test_funsearch_counts_the_programs_of_each_island_for_itself() -> None:
    # island 0 holds 9 of a period of 10: at a tenth of the temperature, exp(-0.5 / 0.2) = 1 to 12. Island 1 is empty.
    start, changed = candidate("a", -1.5), ONE_ISLAND | {"n_islands": 2, "period": 10, "temperature": 2.0}
    search = funsearch.Search(TASK, start, **OPTIONS["funsearch"] | changed | {"n_samples": 1})
    told(search, [candidate(f"b{i}", -1.0, island=0) for i in range(8)], [candidate("b", -1.0, island=1)])
    asked = proposals(search, 6000)
    for island, odds in ((0, math.exp(0.5 / 0.2)), (1, math.exp(0.5 / (2 * 0.8)))):
        drawn = [proposal.parents[0][0] for proposal in asked if proposal.island == island]
        assert chi_square(drawn, {"a": 1.0, "b": odds}) < CRITICAL[1]


def test_funsearch_survives_large_scores_at_a_low_temperature() -> None:
    scores = {"a": -5000.0, "b": 5000.0}
    start, changed = candidate("a", -5000.0), ONE_ISLAND | {"temperature": 0.001}
    search = funsearch.Search(TASK, start, **OPTIONS["funsearch"] | changed)
    assert shown(told(search, [candidate("b", scores["b"], island=0)])) == {"b"}


def test_funsearch_draws_short_programs_of_a_cluster_more_often() -> None:
    # lengths 100, 150, 200: minus (length - 100) / 200 is 0, -1/4, -1/2, and the weights are its exponentials
    start = candidate("a", -1.0, program="#" * 100)
    search = funsearch.Search(TASK, start, **OPTIONS["funsearch"] | ONE_ISLAND | {"n_samples": 1})
    told(search, [candidate(name, -1.0, program="#" * n, island=0) for name, n in (("c", 200), ("b", 150))])
    drawn = [proposal.parents[0] for proposal in proposals(search, 4000)]
    assert chi_square(drawn, {"a": 1.0, "b": math.exp(-1 / 4), "c": math.exp(-1 / 2)}) < CRITICAL[2]
    assert chi_square(drawn, dict.fromkeys("abc", 1.0)) > CRITICAL[2]


def test_funsearch_shows_the_worst_version_first_and_asks_for_the_next() -> None:
    scores = {TEMPLATE_ID: TEMPLATE.score, "a": -3.0, "b": -1.0, "c": -2.0}
    search = told(
        opened("funsearch", n_islands=1, n_versions=3, temperature=100.0),
        [candidate(name, scores[name], island=0) for name in "abc"],
    )
    lengths = set()
    for proposal in proposals(search, 100):
        versions = [scores[name] for name in proposal.parents]
        assert proposal.operation == "version" and versions == sorted(versions)
        names = re.findall(r"^def (\w+)\(", proposal.prompt, re.MULTILINE)
        assert names == [f"{NAME}_v{i}" for i in range(len(versions) + 1)]
        assert f"v0 to v{len(versions) - 1}." in proposal.prompt
        blocks = proposal.prompt.split("```python\n")[1:]
        for name, block in zip(proposal.parents, blocks, strict=False):
            assert name == TEMPLATE_ID or f"return {name!r}\n" in block
        assert '"""' not in "".join(blocks[:-1]) and '"""' in blocks[-1]  # only the asked one has the docstring
        lengths.add(len(versions))
    assert lengths == {3}


def test_funsearch_renames_recursive_calls_and_leaves_longer_names_alone() -> None:
    text = f"def helper_{NAME}(n):\n    return n\n\n\ndef {NAME}(n):\n    return {NAME}(helper_{NAME}(n) - 1)\n"
    start = candidate("a", -1.0, program=text)
    search = funsearch.Search(TASK, start, **OPTIONS["funsearch"] | ONE_ISLAND)
    (proposal, *_) = proposals(search, 1)
    assert f"def {NAME}_v0(n):\n    return {NAME}_v0(helper_{NAME}(n) - 1)\n" in proposal.prompt


def test_funsearch_asks_n_samples_times_with_each_prompt() -> None:
    search = opened("funsearch", n_prompts=5, n_samples=3)
    told(search, [candidate(f"{island}{i}", -1.0 - i, island=island) for island in range(3) for i in range(8)])
    assert search.size == 15
    asked = proposals(search, 14)
    groups = [asked[i : i + 3] for i in range(0, 14, 3)]
    assert [len(group) for group in groups] == [3, 3, 3, 3, 2]
    assert all(proposal == group[0] for group in groups for proposal in group)
    assert len({group[0].prompt for group in groups}) > 1


def settled(**changed: Any) -> Any:
    """Four islands whose best programs are better from island to island; 4 evaluations were told."""
    search = opened("funsearch", **{"n_islands": 4, "n_versions": 1, "temperature": 0.001} | changed)
    return told(search, [candidate(f"i{island}", float(island - 5), island=island) for island in range(4)])


SETTLED = {island: {f"i{island}"} for island in range(4)}


def test_funsearch_resets_exactly_when_reset_every_evaluations_are_full() -> None:
    search = settled()
    assert by_island(search) == SETTLED
    told(search, failures(7))
    assert by_island(search) == SETTLED  # 4 + 7 = 11 of 12: failures are evaluations too
    told(search, failures(1))
    assert set().union(*by_island(search).values()) == {"i2", "i3"}


def test_funsearch_resets_again_after_as_many_evaluations() -> None:
    search = settled(reset_every=8)
    told(search, failures(4))  # 8: reset
    told(search, [candidate(f"new {island}", float(island), island=island) for island in range(4)])
    told(search, failures(3))  # 15
    assert by_island(search) == {island: {f"new {island}"} for island in range(4)}
    told(search, failures(2))  # 17: over 16
    assert set().union(*by_island(search).values()) == {"new 2", "new 3"}


def test_funsearch_restarts_the_worse_half_from_the_best_of_the_better() -> None:
    founders = set()
    for seed in range(20):
        search = settled()
        search.tell(failures(8), Random(seed))
        found = by_island(search, 100)
        assert found[2] == {"i2"} and found[3] == {"i3"}  # the better half is as it was
        founders.add((*found[0], *found[1]))
    assert founders == {("i2", "i2"), ("i2", "i3"), ("i3", "i2"), ("i3", "i3")}


def test_funsearch_leaves_nothing_on_a_reset_island_but_its_founder() -> None:
    search = settled(temperature=100.0)
    assert by_island(search) == {island: {TEMPLATE_ID, f"i{island}"} for island in range(4)}
    told(search, failures(8))
    found = by_island(search)
    assert [len(found[island]) for island in range(4)] == [1, 1, 2, 2]


@pytest.mark.parametrize(("n_islands", "n_reset"), [(1, 0), (2, 1), (3, 1), (5, 2)])
def test_funsearch_resets_half_of_the_islands_rounded_down(n_islands: int, n_reset: int) -> None:
    search = opened("funsearch", n_islands=n_islands, n_versions=1, temperature=0.001, reset_every=n_islands)
    told(search, [candidate(f"i{island}", float(island - 5), island=island) for island in range(n_islands)])
    left = {parent for parents in by_island(search).values() for parent in parents}
    assert left == {f"i{island}" for island in range(n_reset, n_islands)}


def test_funsearch_resets_any_of_islands_that_are_equally_good() -> None:
    survivors = set()
    for seed in range(40):
        search = opened("funsearch", n_islands=2, n_versions=1, temperature=0.001, reset_every=2)
        search.tell([candidate("i0", -1.0, island=0), candidate("i1", -1.0, island=1)], Random(seed))
        survivors |= shown(search, 20)
    assert survivors == {"i0", "i1"}
