"""What the tasks' program grammars share: weighted choices, coarse constants and three-address sums.

A grammar writes canonical names and shallow expressions on purpose: a model of a million parameters learns to write
valid programs of that kind in minutes, and variety comes from structure (loops, stages, look-ahead, branches).
"""

from collections.abc import Mapping
from random import Random

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
