"""Program grammars: draws that can be replayed, mutants that resemble their parents, crossovers."""

import ast
from random import Random
from statistics import mean
from typing import Any

import pytest

from dartune.programs.canonical import parse
from dartune.programs.features import family
from dartune.tasks.grammar import crossover, mutant, recorded
from dartune.tasks.task import Task, names

TASKS = tuple(names())
SEEDS = range(80)


def drawn(task: str, seed: int) -> tuple[str, Any]:
    return recorded(Task(task).grammar.draw, Random(seed))


@pytest.mark.parametrize("task", TASKS)
def test_all_known_draws_give_the_same_program_again(task: str) -> None:
    draw = Task(task).grammar.draw
    for seed in SEEDS:
        text, draws = drawn(task, seed)
        again, same = recorded(draw, Random(-1), draws)
        assert (again, dict(same)) == (text, dict(draws))


@pytest.mark.parametrize("task", TASKS)
def test_a_recorded_program_is_one_that_the_grammar_draws_anyway(task: str) -> None:
    # the numbers differ from those of Random itself, which draws integers by bits; the distribution is the same
    draw, n = Task(task).grammar.draw, 600
    recorded_families = [family(parse(drawn(task, seed)[0]), Task(task).function) for seed in range(n)]
    rng = Random(0)
    families = [family(parse(draw(rng)), Task(task).function) for _ in range(n)]
    for each in set(families):
        p = families.count(each) / n
        if p > 0.05:  # 4 standard deviations of the difference of two shares
            assert recorded_families.count(each) / n == pytest.approx(p, abs=4 * (2 * p * (1 - p) / n) ** 0.5)


def test_known_draws_are_taken_from_the_table_and_others_are_made() -> None:
    def two(rng: Random) -> str:
        return f"{rng.random()} {rng.random()}"

    text, draws = recorded(two, Random(0))
    assert text == f"{0.8444218515250481} {0.7579544029403025}"  # what Random(0) begins with
    assert list(draws.values()) == [0.8444218515250481, 0.7579544029403025]
    first, second = draws
    for known, expected in ((first, [draws[first], Random(5).random()]), (second, [Random(5).random(), draws[second]])):
        text, _ = recorded(two, Random(5), {known: draws[known]})
        assert text == "{} {}".format(*expected)


@pytest.mark.parametrize("task", TASKS)
def test_a_mutant_keeps_all_known_draws_but_as_many_as_were_asked_for(task: str) -> None:
    draw = Task(task).grammar.draw
    for seed in SEEDS:
        _, draws = drawn(task, seed)
        _, changed = mutant(draw, Random(seed), draws, 2)
        common = set(draws) & set(changed)
        assert sum(draws[place] != changed[place] for place in common) <= 2


@pytest.mark.parametrize("task", TASKS)
def test_a_mutant_of_one_draw_differs_in_few_draws(task: str) -> None:
    draw, shares = Task(task).grammar.draw, []
    for seed in SEEDS:
        _, draws = drawn(task, seed)
        _, changed = mutant(draw, Random(seed), draws, 1)
        kept = sum(changed.get(place) == value for place, value in draws.items())
        shares.append(kept / len(draws))
    assert mean(shares) > 0.8  # one draw of about ten, and sometimes those that hang on it
    assert sorted(shares)[len(shares) // 2] > 0.85


@pytest.mark.parametrize("task", TASKS)
def test_a_mutant_of_no_draw_is_its_parent(task: str) -> None:
    text, draws = drawn(task, 1)
    assert mutant(Task(task).grammar.draw, Random(0), draws, 0)[0] == text


@pytest.mark.parametrize("task", TASKS)
def test_a_mutant_of_more_draws_than_there_are_is_a_program(task: str) -> None:
    _, draws = drawn(task, 1)
    ast.parse(mutant(Task(task).grammar.draw, Random(0), draws, len(draws) + 10)[0])


@pytest.mark.parametrize("task", TASKS)
def test_a_crossover_takes_every_draw_from_one_parent_or_makes_it_anew(task: str) -> None:
    draw, from_both = Task(task).grammar.draw, 0
    for seed in SEEDS:
        (_, first), (_, second) = drawn(task, seed), drawn(task, seed + 1000)
        text, draws = crossover(draw, Random(seed), first, second)
        ast.parse(text)
        known = [place for place in draws if place in first or place in second]
        assert all(draws[place] in (first.get(place), second.get(place)) for place in known)
        differing = [place for place in known if first.get(place) != second.get(place)]
        from_both += {draws[place] == first.get(place) for place in differing} == {True, False}
    assert from_both > 60


@pytest.mark.parametrize("task", TASKS)
def test_a_program_crossed_with_itself_is_itself(task: str) -> None:
    text, draws = drawn(task, 3)
    assert crossover(Task(task).grammar.draw, Random(0), draws, draws)[0] == text
