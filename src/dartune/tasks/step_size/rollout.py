"""Integrates with the program's steps. Runs in the sandbox with it, so cost.py trusts none of its results."""

from collections.abc import Callable
from typing import Any

from dartune.tasks.step_size.integration import Trial, checked, integrated

FUNCTION = "next_step"
N_ARGUMENTS = 5


def run(program: Callable[..., Any], instance: dict[str, Any]) -> list[float]:
    """Return the size of each step that the program chose. Raises Refused as integrated does."""
    decisions: list[float] = []

    def choose(trial: Trial) -> float:
        decisions.append(checked(program(*trial), instance["end"]))
        return decisions[-1]

    integrated(instance, choose)
    return decisions
