"""How a program's answers become priorities. Runs in the sandbox with the program, so cost.py trusts none of it."""

from collections.abc import Callable
from typing import Any

import numpy as np

FUNCTION = "priority"
N_ARGUMENTS = 3


def run(program: Callable[..., Any], instance: dict[str, np.ndarray]) -> list[float]:
    """The priority of every candidate, in the candidates' order."""
    n, w = int(instance["n"]), int(instance["w"])
    return [float(program(tuple(vector), n, w)) for vector in instance["vectors"].tolist()]
