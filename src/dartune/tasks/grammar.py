"""What the tasks' program grammars share: weighted choices, coarse constants and three-address sums.

A grammar writes canonical names and shallow expressions on purpose: a model of a million parameters learns to write
valid programs of that kind in minutes, and variety comes from structure (loops, stages, look-ahead, branches).
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

FRACTIONS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9")
FACTORS = (*FRACTIONS, "1.2", "1.5", "2.0", "2.5", "3.0", "5.0")


def weighted(rng: Random, choices: Mapping[str, float]) -> str:
    return rng.choices(list(choices), list(choices.values()))[0]


def indent(lines: list[str], depth: int = 1) -> list[str]:
    return ["    " * depth + line for line in lines]


def combine(rng: Random, names: list[str], maximum: str, minimum: str) -> list[str]:
    """Lines that fold the named terms into s, one operation a line. maximum, minimum: the functions of two terms."""
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
    """One to three distinct names, the order in which they are combined."""
    n_terms = min(len(weights), rng.choices((1, 2, 3), (1, 4, 3))[0])
    names: list[str] = []
    while len(names) < n_terms:
        names.append(weighted(rng, {name: w for name, w in weights.items() if name not in names}))
    return names


Place = tuple[Any, ...]


class Recorder(Random):
    """A source of chance that remembers each draw by the place in the grammar that made it, and repeats known ones.

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
    """A program with the draws that made it; those that are known are not made anew."""
    recorder = Recorder(rng, known)
    return draw(recorder), recorder.draws


def mutant(draw: Draw, rng: Random, parent: Draws, n_draws: int) -> tuple[str, Draws]:
    """A program with so many of the parent's draws made anew, and those that hang on them."""
    changed = set(rng.sample(list(parent), min(len(parent), n_draws)))
    return recorded(draw, rng, {place: value for place, value in parent.items() if place not in changed})


def crossover(draw: Draw, rng: Random, first: Draws, second: Draws) -> tuple[str, Draws]:
    """A program that takes each of its draws from one parent or the other."""
    taken = {place: value for place, value in second.items() if place not in first or rng.random() < 0.5}
    return recorded(draw, rng, {**first, **taken})
