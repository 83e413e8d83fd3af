"""Programs for the embedded base model to learn from: mostly mediocre, in four families of controllers."""

from random import Random

from dartune.tasks.grammar import indent, weighted

# The template as pretraining shows it. A copy: an edit of template.py must not train the embedded model anew.
TEMPLATE = """\
def next_step(step: float, error: float, previous_step: float, previous_error: float, n_rejected: int) -> float:

    factor = 0.9 * error ** (-1 / 5) if error > 0 else 10.0
    if error >= 1:
        return step * max(0.2, factor)
    return step * min(1.0 if n_rejected else 10.0, factor)
"""
HEAD = ["def next_step(step, error, previous_step, previous_error, n_rejected):"]
SHRINKS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8")
SAFETY = ("0.5", "0.6", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95")
EXPONENTS = ("0.14", "0.15", "0.17", "0.2", "0.25")
SMALL = ("0.01", "0.02", "0.04", "0.05", "0.06", "0.08")
GROWTH = ("1.1", "1.2", "1.5", "2.0", "3.0", "5.0", "10.0")
LARGE = ("0.5", "0.6", "0.7", "0.8", "0.9")
ERRORS = ("0.001", "0.01", "0.05", "0.1", "0.2", "0.3", "0.5")


def draw(rng: Random) -> str:
    """One program, as the model is to write it."""
    families = {power: 5, previous: 5, thresholds: 4, stages: 2}
    (family,) = rng.choices(list(families), list(families.values()))
    return "\n".join(HEAD + indent(shrink(rng) + family(rng))) + "\n"


def shrink(rng: Random) -> list[str]:
    """What becomes of a step that failed."""
    size = weighted(
        rng,
        {
            f"step * {rng.choice(SHRINKS)}": 3,
            f"step * max({rng.choice(SHRINKS[:3])}, {rng.choice(SAFETY[2:])} * error ** -{rng.choice(EXPONENTS)})": 4,
            f"step * {rng.choice(SHRINKS)} ** (n_rejected + 1)": 1,
            f"step * {rng.choice(SHRINKS[2:])} / (n_rejected + 1)": 1,
        },
    )
    return ["if error >= 1:", f"    return {size}"]


def bounded(rng: Random) -> str:
    """Bounds of a factor."""
    low = weighted(rng, {"0.2": 2, "0.5": 2, "0.8": 1, "1.0": 1})
    high = weighted(rng, {f"{rng.choice(GROWTH)}": 3, f"(1.0 if n_rejected else {rng.choice(GROWTH)})": 2})
    return f"return step * max({low}, min({high}, f))"


def power(rng: Random) -> list[str]:
    """A power of the error."""
    return ["e = max(error, 1e-6)", f"f = {rng.choice(SAFETY)} * e ** -{rng.choice(EXPONENTS)}", bounded(rng)]


def previous(rng: Random) -> list[str]:
    """Powers of the error and of the one before, or of the steps."""
    lines = ["e = max(error, 1e-6)", f"f = {rng.choice(SAFETY)} * e ** -{rng.choice(EXPONENTS)}"]
    change = weighted(
        rng,
        {
            f"f = f * max(previous_error, 1e-6) ** {rng.choice(SMALL)}": 4,
            f"f = f * (previous_error / e) ** {rng.choice(SMALL)}": 3,
            f"f = f * (step / previous_step) ** {rng.choice(SMALL)}": 2,
            f"f = f * (previous_step / step) ** {rng.choice(SMALL)}": 2,
        },
    )
    return [*lines, "if previous_error > 0:", f"    {change}", bounded(rng)]


def thresholds(rng: Random) -> list[str]:
    """A growth by how small the error is."""
    limits = sorted(rng.sample(ERRORS, rng.choice((1, 2, 3))))
    growths = sorted(rng.sample(GROWTH, len(limits)), key=float, reverse=True)
    lines = []
    for limit, growth in zip(limits, growths, strict=True):
        lines += [f"if error < {limit}:", f"    return step * {growth}"]
    last = weighted(rng, {"1.0": 3, "0.9": 1, "0.8": 1})
    if rng.random() < 0.4:
        lines += [f"if error > {rng.choice(LARGE)}:", f"    return step * {rng.choice(SAFETY[3:])}"]
    return [*lines, f"return step * {last}"]


def stages(rng: Random) -> list[str]:
    """One rule after rejections, or while steps grow, another otherwise."""
    test = weighted(rng, {"n_rejected > 0": 2, "step > previous_step": 2, "error > previous_error": 2})
    early, late = (rng.choice([power, previous, thresholds])(rng) for _ in range(2))
    return [f"if {test}:", *indent(early), *late]
