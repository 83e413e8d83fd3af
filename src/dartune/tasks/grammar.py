"""What the program grammars of the tasks share: weighted choices, coarse constants, sums of one operation a line.

A grammar uses few names and shallow expressions on purpose: a model of a million parameters then learns to write valid
programs in minutes, and variety comes from structure (loops, stages, look-ahead, branches).
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

FRACTIONS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9")
FACTORS = (*FRACTIONS, "1.2", "1.5", "2.0", "2.5", "3.0", "5.0")


def weighted(rng: Random, choices: Mapping[str, float]) -> str:
    """Return one of the keys, drawn by its weight."""
    return rng.choices(list(choices), list(choices.values()))[0]


def indent(lines: list[str], depth: int = 1) -> list[str]:
    """Return the lines indented by `depth` levels."""
    return ["    " * depth + line for line in lines]


def combine(rng: Random, names: list[str], maximum: str, minimum: str) -> list[str]:
    """Return lines that fold the named terms into s, one operation a line.

    maximum, minimum: names of functions of two arguments.
    """
    first, *rest = names
    lines = [weighted(rng, {f"s = {first}": 4, f"s = {rng.choice(FACTORS)} * {first}": 1, f"s = {first} ** 2": 0.5})]
    for name in rest:
        factor = rng.choice(FACTORS)
        lines.append(
            weighted(
                rng,
                {
                    f"s = s + {factor} * {name}": 4,
                    f"s = s - {factor} * {name}": 4,
                    f"s = s * {name}": 1,
                    f"s = s / ({name} + {rng.choice(FRACTIONS)})": 1,
                    f"s = {maximum}(s, {factor} * {name})": 0.7,
                    f"s = {minimum}(s, {factor} * {name})": 0.7,
                },
            )
        )
    return lines


def terms_in_order(rng: Random, weights: dict[str, float]) -> list[str]:
    """Return one to three distinct names, drawn by weight, in the order in which they are to be combined."""
    n_terms = min(len(weights), rng.choices((1, 2, 3), (1, 4, 3))[0])
    names: list[str] = []
    while len(names) < n_terms:
        names.append(weighted(rng, {name: w for name, w in weights.items() if name not in names}))
    return names


def extreme_of(rng: Random, nodes: str, terms: Mapping[str, str], weights: dict[str, float]) -> list[str]:
    """Return lines that combine a few of the terms, vectors over `nodes`, into s and return the node of its extreme.

    terms: line that computes each, by its name. weights: how often each is taken.
    """
    names = terms_in_order(rng, weights)
    extreme = weighted(rng, {"argmin": 2, "argmax": 1})
    return [
        *(terms[name] for name in sorted(names)),
        *combine(rng, names, "np.maximum", "np.minimum"),
        f"return {nodes}[np.{extreme}(s)]",
    ]


Place = tuple[Any, ...]


class Recorder(Random):
    """A random number generator that records each draw by the place in the grammar that made it, and repeats draws.

    A place is the line that draws and the line that called its function, and how often they drew before: so a program
    is a table of draws, and one that shares most of them shares most of its structure (the addresses of Wingate,
    Stuhlmueller and Goodman 2011). Only random() is overridden: all other methods of Random call it then.
    """

    def __init__(self, rng: Random, known: Mapping[Place, float] | None = None) -> None:
        super().__init__(0)
        self._rng, self._known = rng, known or {}
        self._counts: Counter[Place] = Counter()
        self.draws: dict[Place, float] = {}

    def random(self) -> float:
        """Return the known draw of this place, else a new one."""
        place = self._place()
        self.draws[place] = self._known[place] if place in self._known else self._rng.random()
        return self.draws[place]

    def _place(self) -> Place:
        lines: list[tuple[str, int]] = []
        frame = sys._getframe(2)
        while frame.f_code is not recorded.__code__ and frame.f_back is not None and len(lines) < 2:
            if not frame.f_code.co_filename.endswith("random.py"):
                lines.append((frame.f_code.co_name, frame.f_lineno))
            frame = frame.f_back
        self._counts[tuple(lines)] += 1
        return (*lines, self._counts[tuple(lines)])


Draw = Callable[[Random], str]
Draws = Mapping[Place, float]


def recorded(draw: Draw, rng: Random, known: Draws | None = None) -> tuple[str, Draws]:
    """Return a program and the draws that made it. known: draws to repeat, by place."""
    recorder = Recorder(rng, known)
    return draw(recorder), recorder.draws


def mutant(draw: Draw, rng: Random, parent: Draws, n_draws: int) -> tuple[str, Draws]:
    """Return a program for which n_draws of the parent's draws, and those that depend on them, were made again."""
    changed = set(rng.sample(list(parent), min(len(parent), n_draws)))
    return recorded(draw, rng, {place: value for place, value in parent.items() if place not in changed})


def crossover(draw: Draw, rng: Random, first: Draws, second: Draws) -> tuple[str, Draws]:
    """Return a program that takes each of its draws from one parent or the other."""
    taken = {place: value for place, value in second.items() if place not in first or rng.random() < 0.5}
    return recorded(draw, rng, {**first, **taken})
