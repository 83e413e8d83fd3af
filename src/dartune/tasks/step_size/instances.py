"""Instances: initial value problems of the equations in equations.py, with drawn parameters and initial values."""

from typing import Any, NamedTuple

import numpy as np

from dartune.tasks.step_size.equations import EQUATIONS

FIRST_STEP = 1e-3  # beside the whole time
HELD_OUT = ("pendulum", "brusselator")  # equations that no other split has
LEARNT = tuple(name for name in EQUATIONS if name not in HELD_OUT)


class Set(NamedTuple):
    """Problems with one tolerance: as many of each equation."""

    equations: tuple[str, ...]
    n_each: int
    tolerance: float  # relative
    seed: int


SPLITS = {
    "train": Set(LEARNT, 1, 1e-6, 701),
    "validation": Set(LEARNT, 2, 1e-6, 702),
    "test": Set(LEARNT, 2, 1e-6, 703),
    "shifted_tolerance": Set(LEARNT, 1, 1e-9, 704),
    "shifted_equations": Set(HELD_OUT, 3, 1e-6, 705),
}
SHIFTED = ("shifted_tolerance", "shifted_equations")


def draw(split: str) -> list[dict[str, Any]]:
    """Return the instances of a split.

    Each is {"equation": its name, "parameters": (n,), "start": (n_variables,), "end": time, "first_step", "tolerance"}.
    """
    this = SPLITS[split]
    generator = np.random.RandomState(this.seed)
    return [problem(name, this.tolerance, generator) for name in this.equations for _ in range(this.n_each)]


def problem(name: str, tolerance: float, generator: np.random.RandomState) -> dict[str, Any]:
    """Return a problem of an equation."""
    equation = EQUATIONS[name]
    parameters, start = (
        np.array([generator.uniform(*bounds) for bounds in ranges]) for ranges in (equation.parameters, equation.start)
    )
    end = float(equation.end)
    return {
        "equation": name,
        "parameters": parameters,
        "start": start,
        "end": end,
        "first_step": FIRST_STEP * end,
        "tolerance": tolerance,
    }
