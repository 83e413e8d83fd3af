"""An evaluator of LLM4AD as a rollout. It scores a program in the program's own process, so programs can forge scores.

LLM4AD's classes draw their instances by np.random.seed(2024); other instances come by another seed in its place.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np

from dartune.programs.verdict import Refused


def class_of(origin: str) -> Any:
    """Return the class that "MODULE:CLASS" names. Raises ImportError or AttributeError where there is none."""
    module, _, name = origin.partition(":")
    return getattr(import_module(module), name)


@cache
def evaluation(origin: str, seed: int) -> Any:
    """Return the evaluation of a class, with instances that are drawn by this seed."""
    seeded = np.random.seed
    with patch("numpy.random.seed", lambda *_: seeded(seed)):
        return class_of(origin)()


def score(origin: str, seed: int, program: Callable[..., Any]) -> list[float]:
    """Return the evaluator's score of a program as the one decision. Raises Refused where it gives none."""
    result = evaluation(origin, seed).evaluate_program("", program)
    if result is None:
        raise Refused("infeasible", "the evaluator gave no score")
    return [float(result)]


def cost(decision: np.ndarray, sign: float) -> float:
    """Return a score times `sign` as a cost. Raises Refused unless that is one number above 0."""
    if decision.dtype.kind != "f" or len(decision) != 1:
        raise Refused("output", "expected one score")
    value = sign * float(decision[0])
    if not np.isfinite(value):
        raise Refused("nonfinite", f"the score is {value}")
    if value <= 0:
        raise Refused("output", f"the score is {sign * value:g}; that of the template has another sign")
    return value
