"""A task: one folder under tasks/ that holds its prompt, template program, instances, rule, referee and references."""

import json
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from dartune.errors import UserError, nearest

TASKS = Path(__file__).parent


def names() -> list[str]:
    return sorted(path.parent.name for path in TASKS.glob("*/prompt.md"))


@dataclass(frozen=True)
class Task:
    """One task by name. Each part is read when it is asked for: a stage depends only on the files that it uses."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in names():
            raise UserError(f"tasks: there is no task {self.name!r}{nearest(self.name, names())}")

    @property
    def prompt(self) -> str:
        """The fixed prompt x of METHOD: task description + function template."""
        return f"{self.description}\n\n```python\n{self.template.strip()}\n```\n"

    @property
    def description(self) -> str:
        """What the task is, in words."""
        return self._read("prompt.md").strip()

    @property
    def template(self) -> str:
        """The program that the model is asked to better."""
        return self._read("template.py")

    @property
    def signature(self) -> str:
        """The line of the template that defines the function."""
        return next(line for line in self.template.splitlines() if line.startswith("def "))

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
        return self.part("rollout")

    @cached_property
    def cost(self) -> Any:
        return self.part("cost")

    @cached_property
    def _references(self) -> dict[str, float]:
        costs = json.loads(self._read("references.json"))
        return {split: sum(values) / len(values) for split, values in costs.items()}

    @property
    def grammar(self) -> Any:
        return self.part("grammar")

    def instances(self, split: str) -> list[dict[str, Any]]:
        """The instances of a split, as the task's instances.py draws them from the split's own seed."""
        if split not in self.splits:
            raise UserError(f"{self.name}: there is no split {split!r}{nearest(split, self.splits)}")
        return list(self.part("instances").draw(split))

    def reference(self, split: str) -> float:
        """Best known (or near-optimal) mean objective of a split: the zero of the gap."""
        return self._references[split]

    def score(self, costs: list[float]) -> float:
        """Mean objective over the instances, turned so that higher is better."""
        return self.sign * sum(costs) / len(costs)

    def gap(self, score: float, split: str) -> float:
        """How far a score is from the reference, as a fraction of the reference; 0 is as good."""
        reference = self.reference(split)
        return (self.sign * reference - score) / reference

    def quality(self, score: float, split: str) -> float:
        """A score as a fraction of the reference: 1 is as good, 0 what a failure counts for."""
        ratio = abs(score) / self.reference(split)
        return ratio if self.sign > 0 else 1 / ratio

    @property
    def sign(self) -> int:
        return {"minimise": -1, "maximise": 1}[self.cost.DIRECTION]

    @property
    def file(self) -> Path:
        """The template's file."""
        return TASKS / self.name / "template.py"

    def _read(self, file: str) -> str:
        return (TASKS / self.name / file).read_text()

    def part(self, module: str) -> Any:
        """A module of the task's folder."""
        return import_module(f"dartune.tasks.{self.name}.{module}")
