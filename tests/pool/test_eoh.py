"""EoH does what Liu et al. 2024 and the authors' code say, on candidates made by hand."""

import re

import pytest

from dartune.pool.ask_tell import MAX_THOUGHT
from search_candidates import CRITICAL, TASK, candidate, chi_square, failures, opened, program, proposals, shown, told


def test_eoh_starts_with_two_rounds_of_i1_then_four_operators_take_turns() -> None:
    search, found = opened("eoh", n_parents=3), []
    for number in range(10):
        asked = proposals(search, search.size, number)
        found.append({(proposal.operation, len(proposal.parents), proposal.island) for proposal in asked})
        told(search, [candidate(f"{number}.{i}", float(-number - i / 10)) for i in range(4)])
    several = [{("e1", 3, -1)}, {("e2", 3, -1)}, {("m1", 1, -1)}, {("m2", 1, -1)}]
    assert search.size == 4  # children a round: as many as the population holds
    assert found == [{("i1", 0, -1)}] * 2 + several * 2


def test_eoh_prompts_show_their_parents_in_order_and_name_the_operator() -> None:
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


def test_eoh_shows_fewer_parents_where_fewer_programs_survive() -> None:
    search = told(opened("eoh", n_parents=3), [candidate("a", -1.0), candidate("b", -2.0)], [])
    assert {frozenset(proposal.parents) for proposal in proposals(search, 50)} == {frozenset("ab")}


@pytest.mark.parametrize("population", [4, 10], ids=["full", "not full"])
def test_eoh_draws_a_parent_with_weight_one_by_rank_plus_population(population: int) -> None:
    # four survivors: 1 / (rank + 4) for ranks 1 to 4. Rounds 5 and 9 are m1, of one parent; nobody enters in between.
    first = [candidate(name, score) for name, score in (("c", -3.0), ("a", -1.0), ("d", -4.0), ("b", -2.0))]
    search = told(opened("eoh", population=population), first, [], [], [])
    asked = proposals(search, 4000)
    assert {proposal.operation for proposal in asked} == {"m1"}
    drawn = [proposal.parents[0] for proposal in asked]
    assert chi_square(drawn, {"a": 1 / 5, "b": 1 / 6, "c": 1 / 7, "d": 1 / 8}) < CRITICAL[3]
    assert chi_square(drawn, dict.fromkeys("abcd", 1.0)) > CRITICAL[3]


def test_eoh_draws_the_second_parent_from_those_left_by_the_same_ranks() -> None:
    # three survivors, weights 1/4 1/5 1/6: P(a, b) = w_a / sum * w_b / (sum - w_a)
    search = told(opened("eoh"), [candidate(name, -i) for i, name in enumerate("abc", 1)], [])
    weights = {"a": 1 / 4, "b": 1 / 5, "c": 1 / 6}
    pairs = {(x, y): weights[x] * weights[y] / (37 / 60 - weights[x]) for x in "abc" for y in "abc" if x != y}
    assert chi_square((proposal.parents for proposal in proposals(search, 4000)), pairs) < CRITICAL[5]


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
