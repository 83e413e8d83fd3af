"""What can become of a program, and the checks of decisions that all tasks share."""

import sys
from dataclasses import dataclass
from typing import Any

STATUSES = (
    "ok",
    "no_program",  # nothing in the completion that could be run
    "syntax",
    "import",
    "signature",  # cannot be called with the task's arguments
    "runtime",
    "timeout",
    "memory",
    "output",  # decisions of the wrong type, shape or length
    "infeasible",
    "nonfinite",
    "crash",  # the process ended without a word
)

MAX_FLOAT = sys.float_info.max


class Refused(Exception):
    """A program's failure: a status other than ok, and one line of reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = " ".join(reason.split())[:200]


@dataclass(frozen=True)
class Verdict:
    """status out of STATUSES; reason "" and the other fields filled only when ok.

    score: higher is better, mean over the instances, in the task's unit. costs: the objective per instance.
    behaviour: fingerprint of the solutions, equal for programs that act alike on these instances.
    """

    status: str
    reason: str = ""
    score: float | None = None
    costs: tuple[float, ...] | None = None
    behaviour: str | None = None
    cpu_s: float = 0.0


def integers(decision: Any, *, max_length: int) -> list[int]:
    """The decision as a list of ints, or Refused: bool is not an int here, nor is 3.0."""
    if not isinstance(decision, list) or len(decision) > max_length:
        raise Refused("output", f"expected a list of at most {max_length} integers")
    if any(type(x) is not int for x in decision):
        raise Refused("output", "expected integers only")
    return decision


def numbers(decision: Any, *, length: int) -> list[float]:
    """The decision as a list of finite floats of this length, or Refused."""
    if not isinstance(decision, list) or len(decision) != length:
        raise Refused("output", f"expected a list of {length} numbers")
    if any(type(x) not in (int, float) for x in decision):
        raise Refused("output", "expected numbers only")
    if not all(abs(x) <= MAX_FLOAT for x in decision):  # false for nan, inf and integers that no float holds
        raise Refused("nonfinite", "a number is not finite")
    return [float(x) for x in decision]
