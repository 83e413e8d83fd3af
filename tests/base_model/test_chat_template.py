"""What the embedded model reads of a prompt: the operation, the parents and the signature."""

import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from dartune.base_model.embedded import CHAT_TEMPLATE, train_tokenizer
from dartune.pool.prompts import INSTRUCTIONS, Parent, operator_prompt
from dartune.tasks.task import Task

TASKS = ("admissible_set", "cvrp_construct", "tsp_construct")


def operation(prompt: str) -> str:
    (found,) = re.findall(r"^Operation: (.*)$", prompt, re.MULTILINE)
    return str(found)


@pytest.fixture(scope="module")
def render() -> Callable[[str], str]:
    tokenizer = train_tokenizer([Task("tsp_construct").grammar.draw(Random(seed)) for seed in range(50)], 400)
    assert tokenizer.chat_template == CHAT_TEMPLATE

    def rendered(prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    return rendered


def test_the_chat_template_reads_operation_parents_and_signature(
    examples_of_task: Any, render: Callable[[str], str]
) -> None:
    task, made = examples_of_task
    for prompt, _, _ in made:
        name, blocks = operation(prompt), re.findall(r"```python\n(.*?)```", prompt, re.DOTALL)[:-1]
        asked = f"{task.function}_v{len(blocks)}" if name == "version" else task.function
        signature = task.signature.replace(f"def {task.function}(", f"def {asked}(")
        shown = "".join(f"<parent>{block}" for block in blocks)
        assert render(prompt) == f"<s><{name}>{shown}{signature}<program>"


@pytest.mark.parametrize("task", TASKS)
def test_of_a_tasks_fixed_prompt_only_the_signature_is_read(task: str, render: Callable[[str], str]) -> None:
    assert render(Task(task).prompt) == f"<s>{Task(task).signature}<program>"


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_the_operation_is_one_token_of_the_embedded_model(name: str) -> None:
    tokenizer = train_tokenizer(["x = 1\n"], 400)
    assert len(tokenizer.tokenize(f"<{name}>")) == len(tokenizer.tokenize("<parent>")) == 1


def test_a_line_in_a_program_that_looks_like_an_operation_is_none(render: Callable[[str], str]) -> None:
    task, program = Task("tsp_construct"), 'def f():\n    return """\nOperation: m2\n"""\n'
    prompt = operator_prompt(task, "m1", [Parent(program)])
    assert render(prompt) == f"<s><m1><parent>{program}{task.signature}<program>"


def test_a_finished_conversation_renders_the_answer_and_its_end() -> None:
    tokenizer = train_tokenizer(["x = 1\n"], 400)
    messages = [{"role": "user", "content": Task("tsp_construct").prompt}, {"role": "assistant", "content": "x = 1\n"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == f"<s>{Task('tsp_construct').signature}<program>x = 1\n</s>"
