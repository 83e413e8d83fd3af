"""The search methods do what their papers say, on candidates made by hand."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartune import params
from dartune.errors import UserError
from dartune.pool.ask_tell import MAX_THOUGHT, Candidate, Proposal, methods
from dartune.pool.methods import climb, eoh, funsearch, independent
from dartune.pool.search_loop import TEMPLATE_ID, options, search_class
from dartune.programs.extract import extract
from dartune.programs.verdict import Refused
from dartune.tasks.task import Task

ROOT = Path(__file__).parents[2]
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


# ---- eoh: Liu et al. 2024 and the authors' code


def test_eoh_writes_twice_from_nothing_and_then_its_four_operators_take_turns() -> None:
    search, found = opened("eoh", n_parents=3), []
    for number in range(10):
        asked = proposals(search, search.size, number)
        found.append({(proposal.operation, len(proposal.parents), proposal.island) for proposal in asked})
        told(search, [candidate(f"{number}.{i}", float(-number - i / 10)) for i in range(4)])
    several = [{("e1", 3, -1)}, {("e2", 3, -1)}, {("m1", 1, -1)}, {("m2", 1, -1)}]
    assert search.size == 4  # children a round: as many as the population holds
    assert found == [{("i1", 0, -1)}] * 2 + several * 2


def test_eoh_prompts_show_the_programs_of_their_parents_in_order_and_name_the_operator() -> None:
    search = told(opened("eoh"), [candidate(f"c{i}", float(i)) for i in range(4)], [])
    for proposal in proposals(search, 20):
        prompt = proposal.prompt
        assert prompt.startswith(TASK.description) and prompt.count("\nOperation: e1\n") == 1
        places = [prompt.index(program(f"return {parent!r}")) for parent in proposal.parents]
        assert len(places) == 2 and places == sorted(places)
        assert prompt.count("```python") == 3 and prompt.endswith(f"```python\n{TASK.template.strip()}\n```\n")


def test_eoh_never_shows_a_program_twice_in_a_prompt() -> None:
    search = told(opened("eoh", n_parents=3), [candidate(f"c{i}", float(i)) for i in range(4)], [])
    assert all(len(set(proposal.parents)) == 3 for proposal in proposals(search, 500))


def test_eoh_shows_what_there_is_where_fewer_programs_survive_than_a_prompt_has_room_for() -> None:
    search = told(opened("eoh", n_parents=3), [candidate("a", -1.0), candidate("b", -2.0)], [])
    assert {frozenset(proposal.parents) for proposal in proposals(search, 50)} == {frozenset("ab")}


@pytest.mark.parametrize("population", [4, 10], ids=["full", "not full"])
def test_eoh_draws_a_parent_with_probability_proportional_to_one_by_rank_and_size(population: int) -> None:
    # four survivors: 1 / (rank + 4) for ranks 1 to 4. Rounds 5 and 9 are m1, of one parent; nobody enters in between.
    first = [candidate(name, score) for name, score in (("c", -3.0), ("a", -1.0), ("d", -4.0), ("b", -2.0))]
    search = told(opened("eoh", population=population), first, [], [], [])
    asked = proposals(search, 8000)
    assert {proposal.operation for proposal in asked} == {"m1"}
    drawn = [proposal.parents[0] for proposal in asked]
    assert chi_square(drawn, {"a": 1 / 5, "b": 1 / 6, "c": 1 / 7, "d": 1 / 8}) < CRITICAL[3]
    assert chi_square(drawn, dict.fromkeys("abcd", 1.0)) > CRITICAL[3]


def test_eoh_draws_the_second_parent_by_the_same_ranks_from_those_that_are_left() -> None:
    # three survivors, weights 1/4 1/5 1/6: P(a, b) = w_a / sum * w_b / (sum - w_a)
    search = told(opened("eoh"), [candidate(name, -i) for i, name in enumerate("abc", 1)], [])
    weights = {"a": 1 / 4, "b": 1 / 5, "c": 1 / 6}
    pairs = {(x, y): weights[x] * weights[y] / (37 / 60 - weights[x]) for x in "abc" for y in "abc" if x != y}
    assert chi_square((proposal.parents for proposal in proposals(search, 8000)), pairs) < CRITICAL[5]


def test_eoh_keeps_the_best_of_old_and_new() -> None:
    search = told(opened("eoh"), [candidate(f"old {i}", -i) for i in range(4)], [])
    told(search, [candidate("best", 1.0), candidate("middle", -1.5), candidate("worst", -9.0)])
    assert shown(search) == {"best", "old 0", "old 1", "middle"}


def test_eoh_keeps_one_program_a_score_and_that_the_earlier_one() -> None:
    search = told(opened("eoh"), [candidate("first", -1.0), candidate("same", -1.0), candidate("other", -2.0)], [])
    assert shown(search) == {"first", "other"}
    told(search, [candidate("same again", -1.0), candidate("third", -3.0)])
    assert shown(search) == {"first", "other", "third"}


def test_eoh_lets_no_failure_in() -> None:
    search = told(opened("eoh"), [candidate("valid", -1.0), *failures(3)], failures(4), failures(4))
    assert shown(search) == {"valid"}


def test_eoh_writes_from_nothing_until_something_is_valid() -> None:
    search = opened("eoh")
    for _ in range(5):
        assert {proposal.operation for proposal in proposals(search, 4)} == {"i1"}
        told(search, failures(4))
    told(search, [*failures(3), candidate("valid", -1.0)])
    assert {(proposal.operation, proposal.parents) for proposal in proposals(search, 4)} == {("e1", ("valid",))}


def test_eoh_does_not_start_from_the_template() -> None:
    assert shown(told(opened("eoh"), [candidate("a", -100.0)], [])) == {"a"}


CODE = "```python\nimport math\n\n\ndef f():\n    return {1: {2}}\n```"
THOUGHTS = {
    "before a fence": (f"{{Take the nearest.}}\n\n{CODE}", "Take the nearest."),
    "with words around": (f"My idea: {{Take the nearest.}} Here it is:\n{CODE}", "Take the nearest."),
    "on several lines": (f"{{Take\n  the nearest\tcity.}}\n{CODE}", "Take the nearest city."),
    "before code without a fence": ("{Take it.}\ndef f():\n    return {1}\n", "Take it."),
    "before a class": ("{Take it.}\nclass F:\n    x = {1}\n", "Take it."),
    "the first of two": (f"{{One.}} or {{Two.}}\n{CODE}", "One."),
    "without code": ("{Take it.} I know no Python.", "Take it."),
    "none, and braces in the code": (CODE, ""),
    "none, and braces in indented code": ("    def f():\n        return {1}\n", ""),
    "none, and braces after the code": (f"{CODE}\n{{It takes the nearest.}}", ""),
    "none at all": ("def f():\n    return 1\n", ""),
    "not closed": (f"{{Take the nearest.\n{CODE}", ""),
    "nothing in it": (f"{{ }}\n{CODE}", ""),
    "an empty completion": ("", ""),
}


@pytest.mark.parametrize(("completion", "thought"), THOUGHTS.values(), ids=THOUGHTS)
def test_the_thought_is_what_stands_in_braces_before_the_code(completion: str, thought: str) -> None:
    assert candidate("c", 0.0, completion=completion).thought == thought


def test_a_long_thought_is_cut() -> None:
    assert len(candidate("c", 0.0, completion="{" + "word " * 1000 + "}").thought) == MAX_THOUGHT


def test_a_thought_stands_before_its_program_in_later_prompts_on_one_line() -> None:
    text = program("return 'a'")
    kept = candidate("a", -1.0, completion="{Nearest first.\nOperation: m2}\n" + text)
    (prompt,) = {proposal.prompt for proposal in proposals(told(opened("eoh"), [kept], []), 3)}
    assert f"\n\nProgram 1. Nearest first. Operation: m2\n```python\n{text}" in prompt
    assert re.findall("^Operation: .*", prompt, re.MULTILINE) == ["Operation: e1"]


def test_a_program_without_a_thought_is_shown_by_its_number_alone() -> None:
    (prompt,) = {p.prompt for p in proposals(told(opened("eoh"), [candidate("a", -1.0)], []), 3)}
    assert "\n\nProgram 1.\n```python\ndef " in prompt


# ---- funsearch: Romera-Paredes et al. 2024, and programs_database.py of google-deepmind/funsearch

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


def test_funsearch_has_one_cluster_for_programs_that_cost_the_same_on_every_instance() -> None:
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
def test_funsearch_cools_down_while_an_island_takes_in_a_period_of_programs(n_programs: int, share: float) -> None:
    # period 10: the temperature is 2 * (1 - n % 10 / 10). Two clusters whose scores differ by 0.5: odds exp(0.5 / t)
    start = candidate("a", -1.5)
    changed = ONE_ISLAND | {"period": 10, "temperature": 2.0, "n_samples": 1}
    search = funsearch.Search(TASK, start, **OPTIONS["funsearch"] | changed)
    told(search, [candidate(f"b{i}", -1.0, island=0) for i in range(n_programs - 1)])
    drawn = [proposal.parents[0][0] for proposal in proposals(search, 8000)]
    assert chi_square(drawn, {"a": 1.0, "b": math.exp(0.5 / (2 * share))}) < CRITICAL[1]


def test_funsearch_counts_the_programs_of_each_island_for_itself() -> None:
    # island 0 holds 9 of a period of 10: at a tenth of the temperature, exp(-0.5 / 0.2) = 1 to 12. Island 1 is empty.
    start, changed = candidate("a", -1.5), ONE_ISLAND | {"n_islands": 2, "period": 10, "temperature": 2.0}
    search = funsearch.Search(TASK, start, **OPTIONS["funsearch"] | changed | {"n_samples": 1})
    told(search, [candidate(f"b{i}", -1.0, island=0) for i in range(8)], [candidate("b", -1.0, island=1)])
    asked = proposals(search, 12000)
    for island, odds in ((0, math.exp(0.5 / 0.2)), (1, math.exp(0.5 / (2 * 0.8)))):
        drawn = [proposal.parents[0][0] for proposal in asked if proposal.island == island]
        assert chi_square(drawn, {"a": 1.0, "b": odds}) < CRITICAL[1]


def test_funsearch_does_not_overflow_where_scores_are_large_and_the_temperature_low() -> None:
    scores = {"a": -5000.0, "b": 5000.0}
    start, changed = candidate("a", -5000.0), ONE_ISLAND | {"temperature": 0.001}
    search = funsearch.Search(TASK, start, **OPTIONS["funsearch"] | changed)
    assert shown(told(search, [candidate("b", scores["b"], island=0)])) == {"b"}


def test_funsearch_draws_short_programs_of_a_cluster_more_often() -> None:
    # lengths 100, 150, 200: minus (length - 100) / 200 is 0, -1/4, -1/2, and the weights are its exponentials
    start = candidate("a", -1.0, program="#" * 100)
    search = funsearch.Search(TASK, start, **OPTIONS["funsearch"] | ONE_ISLAND | {"n_samples": 1})
    told(search, [candidate(name, -1.0, program="#" * n, island=0) for name, n in (("c", 200), ("b", 150))])
    drawn = [proposal.parents[0] for proposal in proposals(search, 8000)]
    assert chi_square(drawn, {"a": 1.0, "b": math.exp(-1 / 4), "c": math.exp(-1 / 2)}) < CRITICAL[2]
    assert chi_square(drawn, dict.fromkeys("abc", 1.0)) > CRITICAL[2]


def test_funsearch_shows_versions_the_worst_first_and_asks_for_the_next_one() -> None:
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


def test_funsearch_resets_the_worse_half_and_lets_it_start_from_the_best_of_a_better_one() -> None:
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


def extracted(completion: str) -> dict[str, Any]:
    """What the program in a completion to funsearch's prompt defines, for a function f of one argument."""
    namespace: dict[str, Any] = {"__name__": "program"}
    exec(extract(completion, "f", 1, "def f(n):\n    return n\n"), namespace)
    return namespace


def test_the_version_asked_for_becomes_the_function() -> None:
    assert extracted("```python\ndef f_v2(n):\n    return n + 2\n```")["f"](1) == 3


def test_of_several_versions_the_last_becomes_the_function_and_the_others_are_left_out() -> None:
    versions = [f"def f_v{i}(n):\n    return n + {i}\n" for i in range(3)]
    for order in (versions, versions[::-1]):
        namespace = extracted("\n\n".join(order))
        assert namespace["f"](1) == 3 and "f_v0" not in namespace and "f_v1" not in namespace


def test_a_version_that_calls_an_earlier_one_is_no_program() -> None:
    versions = [f"def f_v{i}(n):\n    return {f'f_v{i - 1}(n) + 10' if i else 'n'}\n" for i in range(3)]
    for completion in ("\n\n".join(versions), versions[2], f"def f(n):\n    return f_v0(n) + 1\n\n\n{versions[0]}"):
        with pytest.raises(Refused, match=r"it needs f_v[01], an earlier version"):
            extracted(completion)


def test_of_versions_in_blocks_of_their_own_the_last_becomes_the_function() -> None:
    blocks = [f"Version {i}:\n```python\ndef f_v{i}(n):\n    return n + {i}\n```\n" for i in range(3)]
    for order in (blocks, blocks[::-1]):
        assert extracted("".join(order))["f"](1) == 3


def test_the_tenth_version_comes_after_the_ninth() -> None:
    assert extracted("def f_v10(n):\n    return 10\n\ndef f_v9(n):\n    return 9\n")["f"](0) == 10


def test_a_version_that_calls_itself_calls_itself() -> None:
    assert extracted("def f_v2(n):\n    return n if n < 2 else n * f_v2(n - 1)\n")["f"](4) == 24


def test_a_plain_function_beside_versions_is_the_function() -> None:
    namespace = extracted("def f_v2(n):\n    return 2\n\n\ndef f(n):\n    return n + 1\n")
    assert namespace["f"](0) == 1 and "f_v2" not in namespace


def test_a_name_that_only_begins_like_a_version_is_none() -> None:
    with pytest.raises(Refused, match="no function f; there are f_v2_helper, g"):
        extracted("def f_v2_helper(n):\n    return 2\n\n\ndef g(n):\n    return f_v2_helper(n)\n")


# ---- climb: (1 + lambda)


def test_climb_starts_from_the_template() -> None:
    search = opened("climb")
    assert search.size == 4 and shown(search) == {TEMPLATE_ID}
    assert "return unvisited_nodes[0]" in proposals(search, 1)[0].prompt


def test_climb_alternates_its_two_operators() -> None:
    assert [proposal.operation for proposal in proposals(opened("climb"), 5)] == ["m1", "m2", "m1", "m2", "m1"]


def test_climb_goes_on_from_the_best_child() -> None:
    search = told(opened("climb"), [candidate("a", -3.0), candidate("b", -2.0), candidate("c", -4.0), *failures(1)])
    assert shown(search) == {"b"}


def test_climb_keeps_a_parent_that_no_child_reaches() -> None:
    assert shown(told(opened("climb"), [candidate("a", -9.5)])) == {TEMPLATE_ID}
    assert shown(told(opened("climb"), failures(4))) == {TEMPLATE_ID}


def test_climb_replaces_the_parent_by_the_first_child_that_is_as_good() -> None:
    assert shown(told(opened("climb"), [candidate("a", -9.0), candidate("b", -9.0)])) == {"a"}
    assert shown(told(opened("climb"), [candidate("a", -9.0)], [candidate("c", -9.5), candidate("b", -9.0)])) == {"b"}


def test_climb_shows_the_thought_of_its_parent() -> None:
    child = candidate("a", -1.0, completion="{Nearest first.}\n" + program("return 'a'"))
    assert "Program 1. Nearest first.\n" in proposals(told(opened("climb"), [child]), 1)[0].prompt


# ---- sample


def test_sample_asks_the_tasks_own_prompt_whatever_it_is_told_and_needs_no_start() -> None:
    search = told(independent.Search(TASK, None), [candidate("a", 1.0)], failures(3))
    assert proposals(search, 7) == [Proposal(TASK.prompt, "sample", (), -1)] * 7


# ---- all methods

SCORES = st.one_of(st.none(), st.integers(-4, 4).map(float))
ROUNDS = st.lists(st.lists(SCORES, min_size=4, max_size=4), max_size=8)


def history(name: str, rounds: list[list[float | None]], n_asked: int) -> Any:
    """A search that was told these scores on what it had proposed, and asked so often more in each round."""
    search = opened(name)
    for number, scores in enumerate(rounds):
        asked = proposals(search, len(scores), number)
        for extra in range(n_asked):
            search.ask(Random(1000 * number + extra), 5)
        children = [
            candidate(f"{number}.{i}", score, island=proposal.island)
            for i, (score, proposal) in enumerate(zip(scores, asked, strict=True))
        ]
        search.tell(children, Random(number))
    return search


@pytest.mark.parametrize("name", methods())
@given(rounds=ROUNDS, seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_asking_changes_nothing(name: str, rounds: list[list[float | None]], seed: int) -> None:
    search, asked_often = history(name, rounds, 0), history(name, rounds, 3)
    first = proposals(search, 6, seed)
    assert proposals(search, 6, seed) == first == proposals(asked_often, 6, seed)


@pytest.mark.parametrize("name", methods())
@given(rounds=ROUNDS, n=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_each_parent_is_a_valid_program_that_was_told_or_the_start(
    name: str, rounds: list[list[float | None]], n: int
) -> None:
    valid = {f"{number}.{i}" for number, scores in enumerate(rounds) for i, s in enumerate(scores) if s is not None}
    asked = proposals(history(name, rounds, 0), n)
    assert len(asked) == n
    assert {parent for proposal in asked for parent in proposal.parents} <= {TEMPLATE_ID, *valid}


@pytest.mark.parametrize("name", ["eoh", "funsearch"])
def test_another_seed_asks_otherwise(name: str) -> None:
    rounds: list[list[float | None]] = [[-1.0, -2.0, -3.0, -4.0]] * 2
    assert proposals(history(name, rounds, 0), 8, 1) != proposals(history(name, rounds, 0), 8, 2)


# ---- options


@pytest.fixture
def given_methods(tmp_path: Path) -> Any:
    """Writes a params.yaml with this text as its section `methods`."""

    def write(text: str) -> Path:
        file = tmp_path / "params.yaml"
        file.write_text(f"methods:\n  {text}\n")
        return file

    return write


def test_the_options_of_params_yaml_are_accepted_and_none_is_missing() -> None:
    content = params.read(ROOT / "params.yaml")["methods"]
    assert set(content) == set(methods()) == {"independent", "climb", "eoh", "funsearch"}
    for name in methods():
        given_options = options(name, ROOT / "params.yaml")
        assert given_options == content[name]
        assert search_class(name)(TASK, TEMPLATE, **given_options).size > 0


WHOLE = "n_islands: 2, n_prompts: 1, n_samples: 1, n_versions: 1, period: 9, reset_every: 9"
REFUSED = [
    ("eoh", "eoh: {population: 4, n_parents: 2, n_childs: 2}", "methods.eoh.n_childs is not a parameter"),
    ("eoh", "eoh: {population: 4, n_parent: 2}", "methods.eoh.n_parent is not a parameter; did you mean 'n_parents'?"),
    ("eoh", "eoh: {population: 4}", "methods.eoh.n_parents is missing; dartune.pool.methods.eoh.Search needs it"),
    ("eoh", "eoh: {population: 0, n_parents: 2}", "methods.eoh.population is 0: input should be greater than 0"),
    ("eoh", "eoh: {population: 4, n_parents: 1}", "methods.eoh.n_parents is 1: input should be greater than or equal"),
    ("eoh", "eoh: {population: 4.0, n_parents: 2}", "methods.eoh.population is 4.0: input should be a valid integer"),
    ("eoh", "eoh: {population: true, n_parents: 2}", "methods.eoh.population is True"),
    ("eoh", "eoh: {population: '4', n_parents: 2}", "methods.eoh.population is '4'"),
    ("climb", "climb: {n_children: null}", "methods.climb.n_children is None"),
    ("climb", "climb: {n_children: [3]}", "methods.climb.n_children is [3]"),
    ("climb", "climb: {n_children: -3}", "methods.climb.n_children is -3"),
    ("independent", "independent: {size: 3}", "methods.independent.size is not a parameter"),
    ("funsearch", f"funsearch: {{{WHOLE}, temperature: 0}}", "methods.funsearch.temperature is 0"),
    ("funsearch", f"funsearch: {{{WHOLE}, temperature: .nan}}", "methods.funsearch.temperature is nan"),
    ("funsearch", f"funsearch: {{{WHOLE}, temperature: hot}}", "methods.funsearch.temperature is 'hot'"),
    ("climb", "eoh: {population: 4, n_parents: 2}", "methods.climb is missing; search method climb needs it"),
    ("climb", "climb: 3", "methods.climb is missing; search method climb needs it"),
    ("climb", "climb:", "methods.climb is missing; search method climb needs it"),
]


@pytest.mark.parametrize(("name", "text", "expected"), REFUSED, ids=[expected for *_, expected in REFUSED])
def test_an_option_that_is_unknown_missing_or_ill_typed_is_refused_in_one_line(
    given_methods: Any, name: str, text: str, expected: str
) -> None:
    file = given_methods(text)
    with pytest.raises(UserError) as refused:
        options(name, file)
    assert str(refused.value).startswith(f"{file}: {expected}") and "\n" not in str(refused.value)


def test_a_file_without_methods_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("tasks: []\n")
    with pytest.raises(UserError, match=r"methods\.eoh is missing; search method eoh needs it$"):
        options("eoh", tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("eho", "there is no search method 'eho'; did you mean 'eoh'?"),
        ("fun_search", "there is no search method 'fun_search'; did you mean 'funsearch'?"),
        ("__init__", "there is no search method '__init__'; known are climb, eoh, funsearch, independent"),
        ("../search/eoh", "there is no search method '../search/eoh'"),
        ("", "there is no search method ''; known are climb, eoh, funsearch, independent"),
    ],
)
def test_a_method_that_is_no_file_is_refused_with_the_nearest_name(name: str, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        options(name, ROOT / "params.yaml")


def test_each_method_is_the_class_of_its_own_file() -> None:
    assert [search_class(name) for name in methods()] == [
        climb.Search,
        eoh.Search,
        funsearch.Search,
        independent.Search,
    ]
