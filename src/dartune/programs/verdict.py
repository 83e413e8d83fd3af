"""The outcomes of running a program."""

from dataclasses import dataclass

STATUSES = (
    "ok",
    "no_program",  # the completion holds nothing that could be run
    "syntax",
    "forbidden",  # asked the kernel for something that the sandbox forbids
    "import",  # of a missing module: programs have Python's library and numpy
    "signature",  # cannot be called with the task's arguments
    "runtime",
    "timeout",  # more CPU time than the limit
    "memory",
    "output",  # decisions of the wrong type, shape or length
    "infeasible",
    "nonfinite",
    "nondeterministic",  # other decisions on a second run
    "crash",  # the process ended without an answer
)


class Refused(Exception):
    """A program's failure: a status other than ok, and one line of reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        words = " ".join(reason[:1000].split())
        # Control characters and lone surrogates, which no UTF-8 file can hold, are escaped.
        printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
        self.reason = printable[:200] or "no reason was given"


@dataclass(frozen=True)
class Verdict:
    """The outcome of one program. score, costs, behaviour and signature are set only if status is ok, reason otherwise.

    status: one of STATUSES. score: higher is better, mean over the instances, in the task's unit. costs: the objective
    per instance. behaviour, signature: equal for programs with equal solutions, similar for similar ones
    (referee/behaviour.py). cpu_s: CPU seconds of the program's process. missing_layers: layers of the sandbox that the
    machine did not offer (sandbox.LAYERS), joined by commas.
    """

    status: str
    reason: str = ""
    score: float | None = None
    costs: tuple[float, ...] | None = None
    behaviour: str | None = None
    signature: tuple[int, ...] | None = None
    cpu_s: float = 0.0
    missing_layers: str = ""
