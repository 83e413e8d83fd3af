"""What grammars share whose programs choose one of several: the end of a vector's order, a loop, the k best.

Grammars of a task's own stand in its folder; grammar.py has what they share whatever programs return.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random

from dartune.tasks.grammar import combine, indent, weighted

Family = Callable[[Random], list[str]]
Lines = Sequence[str]


def program(rng: Random, head: list[str], families: Mapping[Family, float]) -> str:
    """Return a program whose body is of one of the families, drawn by weight. head: up to the function's line."""
    (family,) = rng.choices(list(families), list(families.values()))
    return "\n".join(head + indent(family(rng))) + "\n"


def best_by(rng: Random, items: str, keys: Mapping[str, float], counts: tuple[str, ...]) -> list[str]:
    """Return lines that set `near` to the k items of the least keys. keys: by weight. counts: values of k."""
    return [f"order = np.argsort({weighted(rng, keys)})", f"near = {items}[order[:{rng.choice(counts)}]]"]


def at_position(rng: Random, items: str, vector: list[str]) -> list[str]:
    """Return the lines of grammar.extreme_of over items with another end: the item at a position in the order."""
    position = weighted(rng, {"0": 2, "-1": 2, "len(order) // 2": 1, "len(order) // 3": 1})
    return [*vector[:-1], "order = np.argsort(s)", f"return {items}[order[{position}]]"]


def in_stages(rng: Random, tests: Mapping[str, float], rules: list[Family]) -> list[str]:
    """Return one rule for where a test holds, and another for elsewhere. tests: by weight."""
    test = weighted(rng, tests)
    early, late = (rng.choice(rules)(rng) for _ in range(2))
    return [f"if {test}:", *indent(early), *late]


def loop(
    rng: Random, items: str, item: str, terms: Mapping[str, str], names: list[str], least: float, changes: Lines = ()
) -> list[str]:
    """Return a loop that keeps the item of the best score.

    terms: lines that compute parts of the score, by their names. names: of those that are combined, in this order.
    least: how often the best score is the least. changes: lines that change a score before it is compared.
    """
    worst, better = ("1e9", "<") if rng.random() < least else ("-1e9", ">")
    body = [*(terms[name] for name in sorted(names)), *combine(rng, names, "max", "min"), *changes]
    body += [f"if s {better} best:", *indent(["best = s", f"choice = {item}"])]
    return [f"best = {worst}", f"choice = {items}[0]", f"for {item} in {items}:", *indent(body), "return choice"]
