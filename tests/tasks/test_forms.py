"""Forms of a task's prompt: what is shown, what is asked for, and how an answer looks."""

import pytest

from dartune.errors import UserError
from dartune.models.program_end import has_program
from dartune.pool.prompts import Parent, operator_prompt, version_prompt
from dartune.programs.extract import extract
from dartune.tasks.forms import BLOCK, FORMS
from dartune.tasks.task import Task, names

TASK = "tsp_construct"
BODY = "return unvisited_nodes[0]"
ASKED = [name for name in FORMS if name != "plain"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("task", names())
def test_a_prompt_shows_signature_and_docstring_and_the_body_by_its_form(task: str, form: str) -> None:
    this = Task(task, form)
    body = this.template.strip().splitlines()[-1]
    assert this.signature in this.prompt and '"""Return' in this.prompt
    assert (body in this.prompt) is FORMS[form].shows_body
    assert this.prompt.startswith(this.description)


@pytest.mark.parametrize("form", ASKED)
def test_every_prompt_ends_with_how_to_answer(form: str) -> None:
    task = Task(TASK, form)
    parents = [Parent(task.template), Parent(task.template)]
    assert task.prompt.endswith(f"\n\n{FORMS[form].request.format(function=task.function)}\n")
    of_version = version_prompt(task, [task.template])
    for prompt, name in ((operator_prompt(task, "e1", parents), task.function), (of_version, f"{task.function}_v1")):
        assert prompt.endswith(f"\n\n{BLOCK.format(function=name)}\n") and "sentence" not in prompt


def test_the_plain_form_asks_for_nothing() -> None:
    assert Task(TASK).prompt.endswith("```\n") and Task(TASK).answer("x\n") == "x\n"


@pytest.mark.parametrize("form", ASKED)
def test_an_answer_is_a_block_that_generation_and_the_referee_read(form: str) -> None:
    task = Task(TASK, form)
    answer = task.answer(task.template)
    assert has_program(answer, task.function)
    assert BODY in extract(answer, task.function, 4, task.template).program


def test_an_unknown_form_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"base\.prompt: there is no form 'blok'; did you mean 'block'\?"):
        Task(TASK, "blok")
