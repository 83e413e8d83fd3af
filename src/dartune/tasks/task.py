"""A task: one folder with prompt, template program, instances, rollout, cost and references.

Folders lie in this package, in the folder that params.yaml names as task_folder, or in an installed package whose entry
point in the group `dartune.tasks` names it. The modules of all of them are imported as dartune.tasks.<name>.<module>.
"""

import ast
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import dartune.tasks
from dartune.errors import UserError, nearest
from dartune.programs.online import Items, Reveal, decide
from dartune.tasks.forms import FORMS, check_form, without_body

ENTRY_POINTS = "dartune.tasks"  # the group of installed packages that bring tasks
TASK_FOLDER = "task_folder"  # in params.yaml
OWN = "src/dartune/tasks"  # its value for no folder but this package's, wherever that is installed
PROMPT = "prompt.md"  # the file by which a folder is known to be a task


def names() -> list[str]:
    """Return the names of all tasks, sorted."""
    add_folders()
    return sorted(path.parent.name for folder in dartune.tasks.__path__ for path in Path(folder).glob(f"*/{PROMPT}"))


def folder_of(name: str) -> Path | None:
    """Return the folder of a task among those that are known, None if there is none."""
    folders = (Path(folder) / name for folder in dartune.tasks.__path__)
    return next((folder for folder in folders if (folder / PROMPT).exists()), None)


def add_folders() -> None:
    """Make the tasks known that lie outside this package.

    Raises UserError as params.read does, and where the package of an entry point cannot be imported.
    """
    from dartune import params  # here: workers, which are given their task's folder, do without

    outside = list(installed_folders())
    content = params.read() if params.FILE.exists() else {}
    if content.get(TASK_FOLDER, OWN) != OWN:
        outside.append(Path(str(content[TASK_FOLDER])).resolve())
    for folder in outside:
        add_folder(folder)


def add_folder(folder: Path) -> None:
    """Make the tasks in a folder known."""
    if str(folder) not in dartune.tasks.__path__:
        dartune.tasks.__path__.append(str(folder))


def installed_folders() -> Iterator[Path]:
    """Yield the folders that hold the tasks of installed packages."""
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINTS):
        try:
            yield Path(entry.load().__path__[0]).parent
        except Exception as error:  # whatever a package's code raises
            message = f"tasks: entry point {entry.name} = {entry.value} cannot be imported: {error}"
            raise UserError(" ".join(message.split())) from error


@contextmanager
def without_bytecode() -> Iterator[None]:
    """A block whose imports write no __pycache__."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


class WrongCosts(ValueError):
    """What compute_costs returned is not what it should be."""


@dataclass(frozen=True)
class Task:
    """A task by name and a form of its prompt. Its parts are read on first use. Raises UserError for unknown names."""

    name: str
    form: str = "plain"  # a key of FORMS

    def __post_init__(self) -> None:
        if not folder_of(self.name) and self.name not in names():  # only the latter reads params.yaml
            raise UserError(f"tasks: there is no task {self.name!r}{nearest(self.name, names())}")
        check_form(self.form)

    @property
    def folder(self) -> Path:
        """The task's folder."""
        folder = folder_of(self.name)
        assert folder, f"the folder of {self.name} is gone"
        return folder

    @property
    def prompt(self) -> str:
        """The prompt for completions: the task's description, the template program, and what the form asks for."""
        request = FORMS[self.form].request.format(function=self.function)
        return self.asking(self.description, f"```python\n{self.shown.strip()}\n```", request=request)

    @property
    def shown(self) -> str:
        """The template program, without the body of its function where the form leaves it out."""
        return self.template if FORMS[self.form].shows_body else without_body(self.template, self.function)

    def asking(self, *parts: str, request: str) -> str:
        """Return the parts of a prompt, and at their end how to answer, where answers of the form are code blocks."""
        return "\n\n".join([*parts, *([request] if FORMS[self.form].is_fenced else [])]) + "\n"

    def answer(self, program: str) -> str:
        """Return a program as an answer of this form."""
        return f"```python\n{program.strip()}\n```" if FORMS[self.form].is_fenced else program

    @property
    def description(self) -> str:
        """The task in words."""
        return self._read(PROMPT).strip()

    @property
    def template(self) -> str:
        """The text of the program that a model is asked to improve."""
        return self._read("template.py")

    @property
    def signature(self) -> str:
        """What defines the template's function, on one line."""
        (node,) = (node for node in ast.parse(self.template).body if isinstance(node, ast.FunctionDef))
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"def {node.name}({ast.unparse(node.args)}){returns}:"

    @property
    def function(self) -> str:
        """The name of the template's function."""
        return self.signature.removeprefix("def ").split("(")[0]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of all splits."""
        return tuple(self.part("instances").SPLITS)

    @property
    def shifted(self) -> tuple[str, ...]:
        """Names of the size-shifted splits."""
        return tuple(self.part("instances").SHIFTED)

    @cached_property
    def rollout(self) -> Any:
        """The module that calls a program: FUNCTION, N_ARGUMENTS, run(program, instance)."""
        return self.part("rollout")

    @cached_property
    def cost(self) -> Any:
        """The module that computes costs: DIRECTION, OBJECTIVE, prepare and compute_costs."""
        return self.part("cost")

    @cached_property
    def _references(self) -> dict[str, list[float]]:
        return dict(json.loads(self._read("references.json")))

    @property
    def grammar(self) -> Any:
        """The module that draws programs for the embedded model: draw(rng)."""
        return self.part("grammar")

    def instances(self, split: str) -> list[dict[str, Any]]:
        """Return the instances of a split, drawn from the split's own seed. Raises UserError for an unknown split."""
        if split not in self.splits:
            raise UserError(f"{self.name}: there is no split {split!r}{nearest(split, self.splits)}")
        return list(self.part("instances").draw(split))

    def reference(self, split: str) -> float:
        """Return the best known or near-optimal mean objective of a split, where the gap is 0."""
        values = self.references(split)
        return sum(values) / len(values)

    def references(self, split: str) -> list[float]:
        """Return the best known or near-optimal objective of each instance of a split, or one for all of them."""
        return self._references[split]

    def charged(self, prepared: Any, decisions: list[Any]) -> tuple[list[float], np.ndarray]:
        """Return the cost on each instance, and the moves, of decisions, as cost.py computes them.

        prepared: what its prepare() returned. Raises Refused as it does, and WrongCosts where it returns anything else
        than a pair of one finite cost for each instance, above 0 (or 0 if maximised), and of moves, integers (n,).
        """
        pair = self.cost.compute_costs(prepared, decisions)
        if not isinstance(pair, tuple) or len(pair) != 2 or np.shape(pair[0]) != (len(decisions),):
            raise WrongCosts("must return a pair: a list with one cost per instance, and an array of moves")
        costs, moves = list(map(float, pair[0])), pair[1]
        if not all(math.isfinite(cost) and (cost > 0 or cost == 0 < self.sign) for cost in costs):
            raise WrongCosts(f"gave {costs}; costs are numbers above 0")
        if not isinstance(moves, np.ndarray) or moves.ndim != 1 or moves.dtype.kind not in "iu" or not len(moves):
            raise WrongCosts("gave moves that are no array (n,) of integers, at least one")
        return costs, moves

    def score(self, costs: list[float]) -> float:
        """Return the mean cost over the instances, negated if costs are minimised, so that higher is better."""
        return self.sign * sum(costs) / len(costs)

    def gap(self, score: float, split: str) -> float:
        """Return how far a score is from the reference, as a fraction of the reference; 0 is as good, more is worse."""
        reference = self.reference(split)
        return (self.sign * reference - score) / reference

    def quality(self, score: float | None, split: str) -> float:
        """Return a score as a fraction of the reference: 1 is as good as the reference. A failure, None, has 0."""
        return 0.0 if score is None else self.share(score, self.reference(split))

    def share(self, score: float, reference: float) -> float:
        """Return a score as a fraction of a reference, above 1 where it is better."""
        ratio = abs(score) / reference
        return ratio if self.sign > 0 else 1 / ratio

    @property
    def sign(self) -> int:
        """-1 if costs are minimised, 1 if they are maximised."""
        return {"minimise": -1, "maximise": 1}[self.cost.DIRECTION]

    @property
    def file(self) -> Path:
        """The path of the template."""
        return self.folder / "template.py"

    def _read(self, file: str) -> str:
        return (self.folder / file).read_text()

    def part(self, module: str) -> Any:
        """Import and return a module of the task's folder, in which nothing is written: DVC would see a change."""
        with without_bytecode():
            return import_module(f"dartune.tasks.{self.name}.{module}")


def frozen(instance: dict[str, Any]) -> dict[str, Any]:
    """Return the instance with arrays that nobody can write, as rollouts and programs get them."""
    for value in instance.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return instance


def online_key(rollout: Any) -> str | None:
    """Return the key of an instance's items, where a task's items are revealed one by one; None for other tasks."""
    key: str | None = getattr(rollout, "ONLINE", None)
    return key


def decisions_on(
    instances: list[dict[str, Any]], rollout: Any, program: Callable[..., Any], reveal: Reveal | None = None
) -> Iterable[list[Any]]:
    """Return what a program decides on each instance, in their order.

    rollout: the task's module. reveal: of an online task, where the items are elsewhere: see programs/online.py; the
    instances then have their number. Raises Refused as the rollout does, and whatever the program raises.
    """
    key = online_key(rollout)
    if key is None:
        return (rollout.run(program, instance) for instance in instances)
    items = [instance[key] for instance in instances]
    n_items = items if reveal else [len(each) for each in items]
    runs = [rollout.run(program, instance | {key: n}) for instance, n in zip(instances, n_items, strict=True)]
    return decide(runs, n_items, reveal or Items(items).reveal)


def task_in(folder: Path) -> Task:
    """Return the task of a folder, where params.yaml need not name it. Raises UserError where there is none."""
    add_folder(folder.parent)
    return Task(folder.name)
