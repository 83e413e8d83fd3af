"""Programs for the embedded base model to learn from: mostly mediocre, in four families over scarce capacities."""

from random import Random

from dartune.tasks.grammar import FRACTIONS, combine, indent, terms_in_order, weighted

# The template as pretraining shows it. A copy: an edit of template.py must not train the embedded model anew.
TEMPLATE = """\
import numpy as np


def constraint_weights(values: np.ndarray, weights: np.ndarray, capacities: np.ndarray) -> np.ndarray:

    demands = weights.sum(axis=0)
    return demands / capacities
"""
HEAD = ["import numpy as np", "", "", "def constraint_weights(values, weights, capacities):"]
POWERS = ("2", "3", "4", "5", "6", "8")
N_ITEMS = ("2", "3", "4", "5", "6", "8")


def draw(rng: Random) -> str:
    """One program, as the model is to write it."""
    names, lines = items(rng)
    families = {whole: 5, power: 3, repeated: 3, stages: 3}
    (family,) = rng.choices(list(families), list(families.values()))
    return "\n".join(HEAD + indent([*lines, *family(rng, *names), finish(rng)])) + "\n"


def items(rng: Random) -> tuple[tuple[str, str], list[str]]:
    """The names of the weights and values that count, of all items or of the k best, and the lines that choose them."""
    key = weighted(
        rng,
        {
            "": 5,
            "-values": 1,
            "-values / weights.sum(axis=1)": 2,
            "-values / weights.max(axis=1)": 1,
            "weights.sum(axis=1)": 1,
        },
    )
    n = rng.choice(N_ITEMS)
    if not key:
        return ("weights", "values"), []
    return ("w", "b"), [f"order = np.argsort({key})[:{n}]", "w = weights[order]", "b = values[order]"]


def finish(rng: Random) -> str:
    """Weights above zero."""
    return weighted(
        rng,
        {
            "return np.abs(s) + 0.001": 4,
            f"return np.maximum(s, {rng.choice(FRACTIONS)})": 2,
            f"return np.abs(s) ** {rng.choice(POWERS)} + 0.001": 3,
            "return np.exp(s - s.max())": 2,
            "return (s == s.max()) + 0.001": 1,
        },
    )


def whole(rng: Random, weights: str, values: str) -> list[str]:
    """A combination of terms."""
    terms = of_terms(weights, values)
    names = terms_in_order(rng, {"t": 5, "c": 2, "v": 2, "x": 2, "g": 1, "d": 1})
    return [*(terms[name] for name in sorted(names)), *combine(rng, names, "np.maximum", "np.minimum")]


def power(rng: Random, weights: str, values: str) -> list[str]:
    """How scarce each capacity is, to a power, and beside how much there is of it."""
    terms = of_terms(weights, values)
    name = weighted(rng, {"t": 4, "x": 1, "v": 2, "g": 1})
    end = weighted(rng, {f"s = {name} ** {rng.choice(POWERS)}": 1, f"s = c * {name} ** {rng.choice(POWERS)}": 1})
    return [*([terms["c"]] if "c *" in end else []), terms[name], end]


def repeated(rng: Random, weights: str, values: str) -> list[str]:
    """Weights that grow for capacities that the best items by them exceed."""
    rate = weighted(rng, {"0.5": 1, "0.3": 1, "0.1": 1, "1.0 / k": 2, "2.0 / k": 2})
    start = weighted(rng, {"s = 1.0 / capacities": 3, "s = weights.sum(axis=0) / capacities": 2})
    body = [
        f"order = np.argsort(-{values} / ({weights} @ s))",
        f"filled = np.cumsum(({weights} @ s)[order])",
        f"n = {weights}[order[filled <= capacities @ s]].sum(axis=0)",
        f"s = s * np.exp({rate} * (n / capacities - 1.0))",
    ]
    return [start, f"for k in range(1, {rng.choice(('2', '3', '4', '6', '11', '21'))}):", *indent(body)]


def stages(rng: Random, weights: str, values: str) -> list[str]:
    """One rule while many items are free, another later."""
    test = weighted(
        rng,
        {
            f"len(values) > {rng.choice(N_ITEMS)}": 3,
            f"(weights.sum(axis=0) / capacities).max() > {rng.choice(('1.5', '2.0', '2.5', '3.0'))}": 2,
        },
    )
    early, late = (rng.choice([whole, power, repeated])(rng, weights, values) for _ in range(2))
    return [f"if {test}:", *indent(early), "else:", *indent(late)]


def of_terms(weights: str, values: str) -> dict[str, str]:
    """Lines that compute the terms, vectors over capacities, by name."""
    return {
        "t": f"t = {weights}.sum(axis=0) / capacities",
        "c": "c = capacities.max() / capacities",
        "v": f"v = {values} @ {weights} / capacities / {values}.mean()",
        "x": f"x = {weights}.max(axis=0) / capacities",
        "g": f"g = ({weights} / {values}[:, None]).sum(axis=0)",
        "d": f"d = {weights}.std(axis=0) / capacities",
    }
