"""`dartune task export`: a task as an evaluator of OpenEvolve and as an Evaluation of LLM4AD, judged by our referee.

Their searches then get scores that no program can forge. The files are short, and need dartune where they run.
"""

import atexit
import shutil
import tempfile
from contextlib import ExitStack, chdir
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from dartune.errors import UserError
from dartune.files import templates
from dartune.referee.referee import MAX_SLOWDOWN, MEMORY_MIB, Referee
from dartune.tasks.contract import check_task
from dartune.tasks.task import Task, task_in

ONE_AT_A_TIME = Lock()  # a referee takes one call after the other, and OpenEvolve has several threads
FILES = {  # by template
    "openevolve_program.jinja": "initial_program.py",
    "openevolve_evaluator.jinja": "evaluator.py",
    "openevolve_config.jinja": "config.yaml",
    "llm4ad_evaluation.jinja": "llm4ad_evaluation.py",
}


def write_evaluators(task: Task, split: str, folder: Path) -> list[Path]:
    """Write FILES of a task into a folder, which must not exist or be empty, and return what is in it.

    split: whose instances judge. Raises UserError for a task that is not in order, for an unknown split, and where the
    folder holds something.
    """
    check_task(task.name)
    task.instances(split)
    if folder.resolve().is_relative_to(task.folder.resolve()):
        raise UserError(f"task: {folder} lies in the task's own folder; give another")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"task: {folder} cannot be made: {error.strerror}; give another folder") from error
    if any(folder.iterdir()):
        raise UserError(f"task: {folder} is not empty; give another folder")
    lines = "\n".join(f"    {line}" for line in task.description.splitlines())
    for template, name in FILES.items():
        (folder / name).write_text(
            templates.render(Path(__file__).parent / template, task=task, split=split, lines=lines) + "\n"
        )
    if not task.folder.is_relative_to(Path(__file__).parents[1]):  # the evaluators find it beside them
        shutil.copytree(task.folder, folder / task.name, ignore=shutil.ignore_patterns("__pycache__"))
    return sorted(folder.iterdir())


def judge_program(name: str, split: str, program: str, beside: str) -> dict[str, Any]:
    """Return {"score", "quality", "status", "reason", "cpu_s"} of a program; score is None for failures.

    name: of one of our tasks, or of a folder in that of the file `beside`. The referee stays open for the process.
    """
    with ONE_AT_A_TIME:
        referee = opened(name, split, Path(beside).resolve().parent)
        (verdict,) = referee.judge([program])
    task = referee.task
    quality = task.quality(verdict.score, split)
    return {"score": verdict.score, "quality": quality} | {
        key: getattr(verdict, key) for key in ("status", "reason", "cpu_s")
    }


def task_of(name: str, folder: Path) -> Task:
    """Return the task that lies in the folder, else the one that is known by this name."""
    return task_in(folder / name) if (folder / name).exists() else Task(name)


@cache
def opened(name: str, split: str, folder: Path) -> Referee:
    """Return a referee that is open until this process ends. Its verdicts are kept in a folder that goes with it."""
    stack = ExitStack()
    atexit.register(stack.close)
    task = task_of(name, folder)
    with chdir(stack.enter_context(tempfile.TemporaryDirectory())):
        return stack.enter_context(Referee(task, split, max_slowdown=MAX_SLOWDOWN, memory_mib=MEMORY_MIB))
