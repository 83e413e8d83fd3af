"""Tasks made of evaluators in the shape of LLM4AD's, which needs an older NumPy: their scores can be forged."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dartune.tasks
from dartune.authoring.check import findings
from dartune.authoring.foreign import import_task
from dartune.errors import UserError
from dartune.referee.referee import Referee
from dartune.tasks.contract import check_task
from dartune.tasks.task import Task, add_folder

EVALUATIONS = '''
import numpy as np

TEMPLATE = """
def guess(low: float, high: float, others: List[float]) -> float:
    return low
"""


class Guessing:
    """The mean distance of guesses to numbers, negative as LLM4AD's scores are."""

    template_program, task_description, seed, sign = TEMPLATE, "Guess a\\nnumber.", 2024, -1

    def __init__(self):
        if self.seed is not None:
            np.random.seed(self.seed)
        self.numbers = np.random.rand(8) if self.seed is not None else np.full(8, 0.5)

    def evaluate_program(self, program_str, callable_func):
        guesses = [callable_func(0.0, 1.0, [0.5]) for _ in self.numbers]
        return None if None in guesses else self.sign * float(np.abs(self.numbers - guesses).mean())


class Rewarded(Guessing):
    sign = 1


class Fixed(Guessing):
    seed = None


class TwoFunctions(Guessing):
    template_program = TEMPLATE + "def other():\\n    pass\\n"


class Failing(Guessing):
    def evaluate_program(self, program_str, callable_func):
        return None
'''
MODULES = ("guessing", "others")  # a task is named by its module
HALF = "def guess(low, high, others):\n    return (low + high) / 2\n"
FORGED = """import os
import struct

body = b"=" + struct.pack("<cId", b"f", 1, -1e-9)
os.write(3, struct.pack("<Q", len(body)) + body)
os._exit(0)
"""


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for tasks, beside a module of evaluators that can be imported."""
    folder = tmp_path_factory.mktemp("foreign")
    for name in MODULES:
        (folder / f"{name}.py").write_text(EVALUATIONS)
    sys.path.insert(0, str(folder))
    yield folder / "tasks"
    sys.path.remove(str(folder))
    for name in MODULES:
        del sys.modules[name]


def imported(origin: str, parent: Path) -> Task:
    """The task of a class, known by its name, whose module workers find, too, as if it were installed."""
    folder = import_task(origin, parent)
    rollout = folder / "rollout.py"
    rollout.write_text(f"import sys\n\nsys.path.insert(0, {str(parent.parent)!r})\n{rollout.read_text()}")
    add_folder(parent)
    return Task(folder.name)


@pytest.fixture(scope="module")
def task(parent: Path) -> Iterator[Task]:
    yield imported("guessing:Guessing", parent)
    dartune.tasks.__path__.remove(str(parent))


def test_a_task_of_an_evaluator_is_as_the_contract_says(task: Task) -> None:
    check_task(task.name)
    assert task.name == "forgeable_guessing"
    assert (task.cost.DIRECTION, task.description) == ("minimise", "Guess a number.")
    assert task.template.startswith("from typing import List\n\n\ndef guess(")
    assert task.shifted == () and set(task.splits) == {"train", "validation", "test", "llm4ad"}


def test_programs_cost_what_the_evaluator_says_of_them(task: Task) -> None:
    with Referee(task, "validation", max_slowdown=1000, memory_mib=512) as referee:
        template, half, failed = referee.judge([task.template, HALF, HALF.replace("(low + high) / 2", "None")])
    assert list(template.costs or ()) == task.references("validation")
    assert (half.costs or (9,)) < (template.costs or (0,)) and half.behaviour != template.behaviour
    assert (failed.status, failed.reason) == ("infeasible", "the evaluator gave no score")


def test_splits_have_instances_of_their_own(task: Task) -> None:
    assert len({tuple(task.references(split)) for split in task.splits}) == 4


def test_a_forged_score_counts_and_the_check_says_that_it_can_be_forged(task: Task) -> None:
    with Referee(task, "validation", max_slowdown=1000, memory_mib=512) as referee:
        (verdict,) = referee.judge([FORGED])
    assert verdict.costs == (1e-9,)
    levels = {(finding.level, finding.check) for finding in findings(task.name)}
    assert ("warning", "trust") in levels and not {check for level, check in levels if level == "error"}


def test_a_task_whose_scores_can_be_forged_must_have_the_name_for_it(task: Task, tmp_path: Path) -> None:
    shutil.copytree(task.folder, tmp_path / "guessing_safely")
    add_folder(tmp_path)
    with pytest.raises(UserError, match=r"guessing_safely/cost.py: FORGEABLE is True; the folder's name must begin"):
        check_task("guessing_safely")
    dartune.tasks.__path__.remove(str(tmp_path))


def test_scores_above_zero_are_to_be_large(parent: Path, tmp_path: Path) -> None:
    folder = import_task("others:Rewarded", tmp_path / "other")
    assert 'DIRECTION = "maximise"' in (folder / "cost.py").read_text()


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ("no_such_package.tasks:Evaluation", "ModuleNotFoundError: .* expected MODULE:CLASS"),
        ("guessing:Unknown", "AttributeError: .* expected MODULE:CLASS"),
        ("json:JSONDecoder", "AttributeError: .* expected MODULE:CLASS"),
        ("others:Fixed", "draws the same instances from every seed"),
        ("others:TwoFunctions", "has the functions guess, other; expected one"),
        ("others:Failing", "its template gets no score: Refused: the evaluator gave no score"),
    ],
)
def test_what_is_no_evaluator_is_refused_in_one_line(parent: Path, tmp_path: Path, origin: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        import_task(origin, tmp_path)
    assert "\n" not in str(error.value) and not [*tmp_path.iterdir()]
