"""Judges completions: extracts their programs and has the referee judge those."""

import math
from typing import Any, NamedTuple

import pyarrow as pa

from dartune.errors import UserError
from dartune.programs.extract import Extracted, extract
from dartune.programs.verdict import Refused, Verdict
from dartune.referee.referee import INTERPRETER, Referee

# The columns of a verdict. CPU seconds are no column: they differ from run to run.
PROGRAM_SCHEMA = pa.schema(
    [
        ("program", pa.string()),
        ("extraction", pa.string()),
        ("interpreter", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("score", pa.float64()),
        ("costs", pa.list_(pa.float64())),
        ("behaviour", pa.string()),
        ("signature", pa.list_(pa.uint64())),
        ("missing_layers", pa.string()),
    ]
)


class Judged(NamedTuple):
    """What came of a completion. program, extraction: see Extracted; None where there is no program."""

    program: str | None
    extraction: str | None
    verdict: Verdict

    def columns(self) -> dict[str, Any]:
        """Return the values of PROGRAM_SCHEMA. interpreter: the versions of Python and NumPy that judged."""
        names = {"program": self.program, "extraction": self.extraction, "interpreter": INTERPRETER}
        return names | vars(self.verdict)


def judge(referee: Referee, completions: list[str]) -> list[Judged]:
    """Return what came of each completion, in order."""
    task = referee.task
    extracted: list[Extracted | Refused] = []
    for completion in completions:
        try:
            extracted.append(extract(completion, task.rollout.FUNCTION, task.rollout.N_ARGUMENTS, task.template))
        except Refused as refused:
            extracted.append(refused)
    verdicts = iter(referee.judge(found.program for found in extracted if isinstance(found, Extracted)))
    return [
        Judged(None, None, Verdict(found.status, found.reason))
        if isinstance(found, Refused)
        else Judged(found.program, found.how, next(verdicts))
        for found in extracted
    ]


def template_score(referee: Referee) -> float:
    """Return the score of the task's template program. Raises UserError where the referee refuses it."""
    (verdict,) = referee.judge([referee.task.template])
    if verdict.score is None:
        raise UserError(f"{referee.task.name}: its own template program is judged {verdict.status}: {verdict.reason}")
    return verdict.score


def equals_template(score: float, template_score: float) -> bool:
    """Return whether two scores are equal up to rounding: equal solutions, or different ones of equal cost."""
    return math.isclose(score, template_score, rel_tol=1e-9)
