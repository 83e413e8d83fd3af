"""Calls the program once per candidate. Runs in the sandbox with the program, so cost.py trusts none of its results."""

from collections.abc import Callable
from typing import Any

import numpy as np

FUNCTION = "priority"
N_ARGUMENTS = 3


def run(program: Callable[..., Any], instance: dict[str, np.ndarray]) -> list[float]:
    """Return the priority of every candidate, in the order of instance["vectors"]."""
    n, w = int(instance["n"]), int(instance["w"])
    return [float(program(tuple(vector), n, w)) for vector in instance["vectors"].tolist()]
