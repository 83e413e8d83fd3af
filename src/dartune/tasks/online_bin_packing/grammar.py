"""Programs for the embedded base model to learn from: mostly mediocre, in four families over the room in bins."""

from random import Random

from dartune.tasks.grammar import FRACTIONS, combine, indent, terms_in_order, weighted
from dartune.tasks.selection import program

# The template as pretraining shows it. A copy: an edit of template.py must not train the embedded model anew.
TEMPLATE = """\
import numpy as np


def priority(item: float, bins: np.ndarray) -> np.ndarray:

    return -np.arange(len(bins), dtype=float)
"""
HEAD = ["import numpy as np", "", "", "def priority(item, bins):"]
SIZES = ("1", "2", "3", "5", "8", "10", "15", "20", "30", "40", "50")


def draw(rng: Random) -> str:
    """One program, as the model is to write it."""
    return program(rng, HEAD, {whole: 5, steps: 4, stages: 3, target: 3})


def whole(rng: Random) -> list[str]:
    """A combination of terms."""
    return [*vector(rng), finish(rng)]


def steps(rng: Random) -> list[str]:
    """The same, with more or less for bins in which much or little is left."""
    room = weighted(rng, {"bins - item": 5, "bins": 2, "bins % item": 1})
    lines = vector(rng)
    for _ in range(rng.choices((1, 2), (3, 1))[0]):
        amount = weighted(rng, {rng.choice(SIZES): 3, "s": 1, f"{rng.choice(FRACTIONS)} * s": 2})
        test = f"{room} {rng.choice('<>')} {rng.choice(SIZES)}"
        lines.append(f"s = np.where({test}, s {rng.choice('+-')} {amount}, s)")
    return [*lines, finish(rng)]


def stages(rng: Random) -> list[str]:
    """One rule for large items, another for small ones."""
    test = weighted(
        rng,
        {
            f"item > {rng.choice(SIZES[4:])}": 4,
            f"len(bins) < {rng.choice(('50', '100', '150', '200', '240'))}": 1,
            f"bins.min() - item < {rng.choice(SIZES)}": 2,
        },
    )
    return [f"if {test}:", *indent(rng.choice([whole, steps])(rng)), *rng.choice([whole, target])(rng)]


def target(rng: Random) -> list[str]:
    """How near the room that will be left is to a size."""
    size = weighted(rng, {rng.choice(SIZES): 3, "item": 2, f"{rng.choice(FRACTIONS)} * item": 2, "bins.mean()": 1})
    return [f"s = np.abs(bins - item - {size})", *more(rng), finish(rng)]


def more(rng: Random) -> list[str]:
    return [f"s = s + {rng.choice(FRACTIONS)} * np.arange(len(bins))"] if rng.random() < 0.4 else []


def finish(rng: Random) -> str:
    return weighted(rng, {"return -s": 3, "return s": 2})


def vector(rng: Random) -> list[str]:
    """Terms as vectors over bins, and their combination s."""
    terms = {
        "r": "r = bins - item",
        "b": "b = bins",
        "k": "k = np.arange(len(bins))",
        "u": "u = item / bins",
        "m": "m = (bins - item) % item",
        "e": "e = (bins == bins.max()) * 1.0",
    }
    names = terms_in_order(rng, {"r": 5, "b": 2, "k": 3, "u": 3, "m": 1, "e": 1})
    return [*(terms[name] for name in sorted(names)), *combine(rng, names, "np.maximum", "np.minimum")]
