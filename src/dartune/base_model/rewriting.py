"""Pretraining examples of rewriting: the prompt of a search method, and a child of the parents in it.

Children are mutants and crossovers in the task's grammar, made without looking at scores: the model learns what the
operators mean, not what is good.
"""

import re
from collections.abc import Callable
from random import Random

from dartune.pool.prompts import VERSION, Parent, operator_prompt, renamed, version_prompt
from dartune.programs.canonical import parse
from dartune.programs.features import family
from dartune.tasks.grammar import Draws, crossover, mutant, recorded
from dartune.tasks.task import Task

SHARES = {"i1": 2, "e1": 2, "e2": 3, "m1": 4, "m2": 3, VERSION: 6}
TEMPLATE_SHARE = 0.15  # of prompts whose worst, or only, parent is the task's template: where searches start
N_TRIES = 100


class PretrainingTask(Task):
    """A task whose template is the copy in its grammar, so that no other file of the task decides what is learnt.

    The description, which does come from the task's prompt, is dropped by the model's chat template.
    """

    @property
    def template(self) -> str:
        """Return the text of the template program, without a docstring."""
        return str(self.grammar.TEMPLATE)


class Rewriting:
    """Draws examples of a task; the same seed draws the same ones."""

    def __init__(self, task: str, seed: int) -> None:
        self._task, self._rng = PretrainingTask(task), Random(f"{task}/rewriting/{seed}")
        self._draw = self._task.grammar.draw

    def example(self) -> tuple[str, str, str]:
        """Return the next prompt, the answer to it, and the program in the answer."""
        (operation,) = self._rng.choices(list(SHARES), list(SHARES.values()))
        return self._version() if operation == VERSION else self._operated(operation)

    def _operated(self, operation: str) -> tuple[str, str, str]:
        n_parents = {"i1": 0, "e1": 2, "e2": 2}.get(operation, 1)
        parents = [recorded(self._draw, self._rng) for _ in range(n_parents)]
        child = self._child(operation, parents)
        shown = [Parent(text, self._thought(text)) for text, _ in parents]
        if n_parents == 1 and self._rng.random() < TEMPLATE_SHARE:
            shown = [Parent(self._task.template)]
        return operator_prompt(self._task, operation, shown), f"{self._thought(child)}\n{child}", child

    def _version(self) -> tuple[str, str, str]:
        n_parents = self._rng.choice((1, 2, 2, 2))
        parents = [recorded(self._draw, self._rng) for _ in range(n_parents)]
        child = self._child(self._rng.choice(("m1", "m2") if n_parents == 1 else ("m1", "m2", "e2")), parents[::-1])
        programs = [text for text, _ in parents]
        if self._rng.random() < TEMPLATE_SHARE:
            programs[0] = self._task.template
        return version_prompt(self._task, programs), renamed(child, self._task.function, n_parents), child

    def _child(self, operation: str, parents: list[tuple[str, Draws]]) -> str:
        """Return the first of N_TRIES children that does what the operation asks for, else the last."""
        makes, fits = self._makes(operation, parents), self._fits(operation, [text for text, _ in parents])
        for _ in range(N_TRIES):
            text, _ = makes()
            if fits(text):
                break
        return text

    def _makes(self, operation: str, parents: list[tuple[str, Draws]]) -> Callable[[], tuple[str, Draws]]:
        draws = [draws for _, draws in parents]
        if operation in ("m1", "m2"):
            n_draws = 1 if operation == "m2" else self._rng.randint(1, 3)
            return lambda: mutant(self._draw, self._rng, draws[0], n_draws)
        if operation == "e2":
            return lambda: mutant(self._draw, self._rng, crossover(self._draw, self._rng, *draws)[1], 1)
        return lambda: recorded(self._draw, self._rng)

    def _fits(self, operation: str, parents: list[str]) -> Callable[[str], bool]:
        if operation == "m2":
            return lambda text: text not in parents and form(text) == form(parents[0])
        if operation == "e1":
            families = {self._thought(text) for text in parents}
            return lambda text: self._thought(text) not in families
        forms = {form(text) for text in parents}
        return lambda text: form(text) not in forms

    def _thought(self, program: str) -> str:
        """Return what stands in braces before a program: its family, since the embedded model knows no English."""
        return f"{{{family(parse(program), self._task.function)}}}"


def form(program: str) -> str:
    """Return the program with every number replaced by "#"."""
    return re.sub(r"\d+(\.\d+)?", "#", program)
