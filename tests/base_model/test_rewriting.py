"""Pretraining examples: children that do what the operators ask, and the prompts that searches would write."""

import ast
import re
from difflib import SequenceMatcher
from random import Random
from statistics import mean
from typing import Any

import pytest

from dartune.base_model.rewriting import SHARES, TEMPLATE_SHARE, Rewriting, form
from dartune.pool.prompts import OPERATIONS, Parent, operator_prompt, version_prompt, without_docstrings
from dartune.programs.canonical import parse
from dartune.programs.features import family
from dartune.tasks.task import Task

TASKS = ("admissible_set", "cvrp_construct", "tsp_construct")


def alike(one: str, other: str) -> float:
    """1 for equal programs; the head that all share counts for nothing."""
    bodies = [text.split("\n", 4)[-1] for text in (one, other)]
    return SequenceMatcher(None, *bodies, autojunk=False).ratio()


class Operated(Rewriting):
    """Examples of one operation."""

    def of(self, operation: str) -> tuple[str, str, str]:
        return self._version() if operation == "version" else self._operated(operation)


def parents(prompt: str) -> list[str]:
    """The programs in a prompt, under the task's own name; the last block, which is the template, is none."""
    blocks = re.findall(r"```python\n(.*?)```", prompt, re.DOTALL)[:-1]
    return [re.sub(rf"_v{i}\b", "", block) for i, block in enumerate(blocks)]


def examples(task: str, operation: str, n: int) -> list[tuple[str, str, list[str]]]:
    """(answer, program, parents) of n examples none of whose parents is the template, which is nobody's parent."""
    made, found = Operated(task, 0), []
    while len(found) < n:
        prompt, answer, program = made.of(operation)
        shown = parents(prompt)
        if all("->" not in each for each in shown):  # the template alone says what its function returns
            found.append((answer, program, shown))
    return found


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("operation", "margin"), [("m1", 0.2), ("m2", 0.4), ("e2", 0.2), ("version", 0.25)])
def test_children_resemble_a_parent_more_than_a_random_program_does(task: str, operation: str, margin: float) -> None:
    rng, draw = Random(7), Task(task).grammar.draw
    close, far = [], []
    for _, program, shown in examples(task, operation, 200):
        other = draw(rng)
        close.append(max(alike(parent, program) for parent in shown))
        far.append(max(alike(parent, other) for parent in shown))
    assert mean(close) > mean(far) + margin


@pytest.mark.parametrize("task", TASKS)
def test_m2_changes_numbers_and_nearly_always_nothing_else(task: str) -> None:
    found = examples(task, "m2", 200)
    assert sum(form(program) == form(parent) for _, program, (parent,) in found) > 180
    assert sum(program == parent for _, program, (parent,) in found) < 20


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("operation", ["m1", "e2"])
def test_m1_and_e2_nearly_always_change_the_form(task: str, operation: str) -> None:
    found = examples(task, operation, 200)
    assert sum(form(program) in {form(parent) for parent in shown} for _, program, shown in found) < 10


@pytest.mark.parametrize("task", TASKS)
def test_e1_nearly_always_answers_with_another_family(task: str) -> None:
    def of(program: str) -> str:
        return family(parse(program), Task(task).function)

    found = examples(task, "e1", 200)
    assert sum(of(program) in {of(parent) for parent in shown} for _, program, shown in found) < 10


def test_the_form_of_a_program_is_its_text_without_numbers() -> None:
    assert form("s = 0.5 * a + b[:15] ** 2\n") == form("s = 12 * a + b[:3] ** 1.25\n") == "s = # * a + b[:#] ** #\n"
    assert form("s = a\n") != form("s = b\n")


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_examples_and_another_one_others(task: str) -> None:
    one, same, other = (Rewriting(task, seed) for seed in (0, 0, 1))
    first = [one.example() for _ in range(30)]
    assert first == [same.example() for _ in range(30)]
    assert first != [other.example() for _ in range(30)]


def operation(prompt: str) -> str:
    (found,) = re.findall(r"^Operation: (.*)$", prompt, re.MULTILINE)
    return str(found)


def test_all_operations_come_up_about_as_often_as_their_shares(examples_of_task: Any) -> None:
    found = [operation(prompt) for prompt, _, _ in examples_of_task[1]]
    assert set(found) == set(OPERATIONS) == set(SHARES)
    for name, share in SHARES.items():  # 4 standard deviations
        p = share / sum(SHARES.values())
        assert found.count(name) / 400 == pytest.approx(p, abs=4 * (p * (1 - p) / 400) ** 0.5)


def test_the_template_where_searches_start_is_sometimes_the_parent(examples_of_task: Any) -> None:
    task, made = examples_of_task
    first = [parents(prompt)[:1] for prompt, _, _ in made if operation(prompt) in ("m1", "m2", "version")]
    start = without_docstrings(task.template)
    n_starts = sum(bool(each) and each[0].strip() == start.strip() for each in first)
    expected = TEMPLATE_SHARE * len(first)
    assert n_starts == pytest.approx(expected, abs=4 * (expected * (1 - TEMPLATE_SHARE)) ** 0.5)


def test_a_prompt_is_the_one_that_a_search_writes_of_the_same_parents(examples_of_task: Any) -> None:
    task, made = examples_of_task
    for prompt, _, _ in made:
        shown, name = parents(prompt), operation(prompt)
        if name == "version":
            assert prompt == version_prompt(task, shown)
        else:
            thoughts = re.findall(r"^Program \d+\. ?(.*)$", prompt, re.MULTILINE)
            pairs = [Parent(program, thought) for program, thought in zip(shown, thoughts, strict=True)]
            assert prompt == operator_prompt(task, name, pairs)


def test_an_answer_is_a_thought_and_a_program_or_the_next_version(examples_of_task: Any) -> None:
    task, made = examples_of_task
    for prompt, answer, program in made:
        ast.parse(program)
        if operation(prompt) == "version":
            assert answer == program.replace(task.function, f"{task.function}_v{len(parents(prompt))}")
        else:
            thought, text = answer.split("\n", 1)
            assert text == program and re.fullmatch(r"\{[a-z+]+ of [\d,]+\}", thought)
