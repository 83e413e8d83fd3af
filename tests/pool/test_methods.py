"""What all search methods keep to; hill climbing, independent completions, and options."""

import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartune import params
from dartune.errors import UserError
from dartune.pool.ask_tell import Proposal, methods
from dartune.pool.methods import climb, eoh, funsearch, independent
from dartune.pool.search_loop import TEMPLATE_ID, options, search_class
from search_candidates import TASK, TEMPLATE, candidate, failures, opened, program, proposals, shown, told

ROOT = Path(__file__).parents[2]


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


def test_independent_repeats_the_tasks_prompt_whatever_it_is_told() -> None:
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
def test_an_unknown_missing_or_ill_typed_option_is_refused_in_one_line(
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
