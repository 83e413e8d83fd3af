"""Programs for the embedded base model to learn from: mostly mediocre, in six families that may be added up."""

from collections.abc import Mapping
from random import Random

from dartune.tasks.grammar import FACTORS, FRACTIONS, indent, weighted

# The template as pretraining shows it. A copy: an edit of template.py must not train the embedded model anew.
TEMPLATE = """\
def priority(el: tuple[int, ...], n: int, w: int) -> float:

    return 0.0
"""
HEAD = ["def priority(el, n, w):"]


def draw(rng: Random) -> str:
    """One program, as the model is to write it."""
    families = {positions: 4, groups: 5, counts: 2, neighbours: 3, digits: 1, pairs: 3}
    n_families = rng.choices((1, 2), (3, 2))[0]
    drawn = rng.choices(list(families), list(families.values()), k=n_families)
    lines = [line for family in drawn for line in family(rng)]
    return "\n".join(HEAD + indent(["s = 0.0", *lines, finish(rng)])) + "\n"


def finish(rng: Random) -> str:
    return weighted(
        rng,
        {
            "return s": 8,
            "return -s": 4,
            f"return s % {rng.choice((2, 3, 5, 7))}": 1,
            "return abs(s)": 1,
            "return s * s": 0.5,
            f"return abs(s - {rng.choice((2, 5, 10))})": 0.5,
        },
    )


def step(rng: Random, amounts: Mapping[str, float]) -> str:
    """One change of s."""
    sign = rng.choice("+-")
    amount = weighted(rng, amounts)
    return weighted(rng, {f"s {sign}= {amount}": 3, f"s {sign}= {rng.choice(FACTORS)} * {amount}": 2})


def positions(rng: Random) -> list[str]:
    """A loop over coordinates that looks at their values."""
    amounts = {"i": 2, "(n - i)": 1, "(i % 3)": 2, "(i // 3)": 1.5, "el[i]": 1, "1.0": 1, "(i % 2)": 0.5}
    body = [f"if el[i] == {rng.choice('012')}:", *indent([step(rng, amounts)])]
    if rng.random() < 0.6:
        body += [f"elif el[i] == {rng.choice('012')}:", *indent([step(rng, amounts)])]
    if rng.random() < 0.3:
        body += ["else:", *indent([step(rng, amounts)])]
    return ["for i in range(n):", *indent(body)]


def groups(rng: Random) -> list[str]:
    """A loop over the groups of three coordinates."""
    tests = {
        "a == b": 2,
        "b == c": 2,
        "a == c": 2,
        "a < b": 1,
        "b < c": 1,
        "a > c": 1,
        "a == 0": 1.5,
        "b == 0": 1,
        "c == 0": 1,
        "a + b == c": 1,
        "a * b == 2": 1,
        f"a + b + c == {rng.randint(1, 6)}": 3,
        f"a + b + c > {rng.randint(1, 4)}": 2,
        "a == b == c": 1,
    }
    amounts = {
        "a": 2,
        "b": 2,
        "c": 2,
        "1.0": 2,
        "i": 2,
        "a * b": 1,
        "b * c": 1,
        "(a + b + c)": 1,
        "(a - c)": 1,
    }
    body = ["a = el[i]", "b = el[i + 1]", "c = el[i + 2]"]
    for _ in range(rng.choices((1, 2, 3), (3, 3, 1))[0]):
        body += [f"if {weighted(rng, tests)}:", *indent([step(rng, amounts)])]
    if rng.random() < 0.3:
        body.append(step(rng, amounts))
    return ["for i in range(0, n, 3):", *indent(body)]


def counts(rng: Random) -> list[str]:
    """How often each value occurs, in the whole vector or in a part of it."""
    part = weighted(rng, {"el": 3, "el[:w]": 1, "el[::3]": 1, "el[1::3]": 1, "el[n // 2:]": 1})
    amounts = {"x": 2, "y": 2, "x * y": 1, "abs(x - y)": 1, "(x - y)": 1, "x * x": 0.5}
    return [
        f"x = {part}.count({rng.choice('012')})",
        f"y = el.count({rng.choice('012')})",
        *(step(rng, amounts) for _ in range(rng.choice((1, 2)))),
    ]


def neighbours(rng: Random) -> list[str]:
    """A loop that compares a coordinate with the one some steps before it."""
    distance = weighted(rng, {"1": 3, "2": 1, "3": 3, "6": 1})
    test = weighted(
        rng,
        {
            f"el[i] == el[i - {distance}]": 3,
            f"el[i] < el[i - {distance}]": 1,
            f"el[i] > el[i - {distance}]": 1,
            f"el[i] + el[i - {distance}] == {rng.choice('1234')}": 2,
            f"el[i] * el[i - {distance}] == {rng.choice('0124')}": 1,
        },
    )
    amounts = {"1.0": 2, "i": 2, "el[i]": 2, "(i % 3)": 1, "(n - i)": 0.5}
    body = [f"if {test}:", *indent([step(rng, amounts)])]
    if rng.random() < 0.4:
        body += ["else:", *indent([step(rng, amounts)])]
    return [f"for i in range({weighted(rng, {'n': 3, f'{distance}, n': 2})}):", *indent(body)]


def digits(rng: Random) -> list[str]:
    """The vector read as digits: an order in which hardly anything ties."""
    base = rng.choice((*FRACTIONS[-5:], "1.2", "1.5", "2.0", "3.0"))
    digit = weighted(rng, {"el[i]": 3, "(el[i] == 1)": 1, "(el[i] == 2)": 1, "(el[i] == 0)": 1, "el[i] * el[i]": 1})
    return ["for i in range(n):", *indent([f"s = s * {base} + {digit}"])]


def pairs(rng: Random) -> list[str]:
    """A loop over groups that sums a product or looks at two groups at once."""
    offset = rng.choice(("3", "6", "9"))
    amounts = {
        f"el[i] * el[i - {offset}]": 1,
        "abs(x - y)": 2,
        "x * y": 2,
        "x": 1,
        "(x == y)": 1.5,
        "max(x, y)": 1,
        "min(x, y)": 1,
    }
    value = weighted(rng, {"sum(el[i:i + 3])": 3, "max(el[i:i + 3])": 1, "el[i:i + 3].count(0)": 2, "el[i]": 1})
    other = value.replace("[i:i + 3]", f"[i - {offset}:i - {offset} + 3]").replace("el[i]", f"el[i - {offset}]")
    body = [f"x = {value}", f"y = {other}", *(step(rng, amounts) for _ in range(rng.choice((1, 2))))]
    return [f"for i in range({offset}, n, 3):", *indent(body)]
