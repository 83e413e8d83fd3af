"""What can become of a program."""

from dataclasses import dataclass

STATUSES = (
    "ok",
    "no_program",  # nothing in the completion that could be run
    "syntax",
    "forbidden",  # asked the system for what the sandbox does not permit
    "import",  # of what is not there: programs have Python's library and numpy
    "signature",  # cannot be called with the task's arguments
    "runtime",
    "timeout",  # more CPU time than the limit
    "memory",
    "output",  # decisions of the wrong type, shape or length
    "infeasible",
    "nonfinite",
    "nondeterministic",  # other decisions on a second run
    "crash",  # the process ended without a word
)


class Refused(Exception):
    """A program's failure: a status other than ok, and one line of reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        words = " ".join(reason[:1000].split())
        printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)  # no half characters, no bells
        self.reason = printable[:200] or "no reason was given"


@dataclass(frozen=True)
class Verdict:
    """status out of STATUSES; reason "" and score, costs, behaviour and signature filled only when ok.

    score: higher is better, mean over the instances, in the task's unit. costs: the objective per instance.
    behaviour, signature: of the solutions, equal and alike for programs that act so on these instances (behaviour.py).
    cpu_s: of the program's process. missing_layers: of the sandbox (sandbox.LAYERS), those that the machine
    did not offer, joined by commas.
    """

    status: str
    reason: str = ""
    score: float | None = None
    costs: tuple[float, ...] | None = None
    behaviour: str | None = None
    signature: tuple[int, ...] | None = None
    cpu_s: float = 0.0
    missing_layers: str = ""
