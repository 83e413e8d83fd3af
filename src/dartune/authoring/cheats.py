"""Programs that try to score without solving the task: some for every task, and those that a task brings in cheats/.

What attacks the sandbox is no business of a task: tests/attacks/ has that.

The first line of a file in cheats/ gives the statuses that are allowed and what is tried. `ok=NAME` allows the status
ok with the costs of the program NAME.py beside it: the attempt had no effect.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dartune.errors import UserError
from dartune.programs.verdict import STATUSES
from dartune.tasks.task import Task

HEAD = re.compile(r"# ([\w=, ]+): (.+)")
NUMBER_LIKE = """class Everything(str):
    def __index__(self): return 0
    def __float__(self): return 1e308
    def __eq__(self, other): return True
    def __hash__(self): return 0
"""
# Bodies of the task's function by what they try; {first} is its first argument.
BODIES = {
    "returns nothing": "    return None",
    "returns text": '    return "the best"',
    "returns a list": "    return [0, 1, 2, 3]",
    "returns not a number": '    return float("nan")',
    "returns infinity": '    return float("inf")',
    "returns a number beyond 64 bits": "    return 10**30",
    "returns -1": "    return -1",
    "returns what it was given": "    return {first}",
    "returns an object that equals everything": '    return Everything("0")',
}


@dataclass(frozen=True)
class Cheat:
    """A program that cheats. allowed: statuses. baseline: the honest program whose costs it has when it is ok."""

    name: str
    attempt: str
    text: str
    allowed: tuple[str, ...]
    baseline: str | None


def read_cheat(path: Path) -> Cheat:
    """Return the cheat in a file. Raises UserError where its first line is not as the module's docstring says."""
    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {error}") from error
    head = HEAD.fullmatch(text.partition("\n")[0])
    allowed = [part.partition("=") for part in head[1].split(", ")] if head else []
    statuses = tuple(status for status, _, _ in allowed)
    if not head or not set(statuses) <= set(STATUSES):
        raise UserError(f"{path}: the first line is not '# statuses: what it tries', with statuses such as infeasible")
    baseline = next((name for _, _, name in allowed if name), None)
    return Cheat(path.stem, head[2], text, statuses, baseline)


def cheats_of(task: Task) -> tuple[list[Cheat], dict[str, str]]:
    """Return the cheats in the task's folder, and the texts of the honest programs beside them, by name."""
    programs = [read_cheat(path) for path in sorted((task.folder / "cheats").glob("*.py"))]
    honest = {program.baseline for program in programs}
    if missing := sorted({name for name in honest if name} - {program.name for program in programs}):
        raise UserError(f"{task.folder}/cheats/{missing[0]}.py: missing; a file beside it names it after ok=")
    return (
        [program for program in programs if program.name not in honest],
        {program.name: program.text for program in programs if program.name in honest},
    )


def common_cheats(task: Task) -> Iterator[tuple[str, str]]:
    """Yield (what it tries, program) of the cheats that every task has to stand."""
    first = task.signature.partition("(")[2].partition(":")[0].partition(",")[0].partition(")")[0].strip()
    for attempt, body in BODIES.items():
        yield attempt, f"import numpy as np\n{NUMBER_LIKE}\n{task.signature}\n{body.format(first=first)}\n"
