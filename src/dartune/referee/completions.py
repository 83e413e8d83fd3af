"""Judges completions: extracts their programs and has the referee judge those."""

import math

import pyarrow as pa

from dartune.errors import UserError
from dartune.programs.extract import extract
from dartune.programs.verdict import Refused, Verdict
from dartune.referee.referee import Referee

# The columns of a verdict. CPU seconds are no column: they differ from run to run.
PROGRAM_SCHEMA = pa.schema(
    [
        ("program", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("score", pa.float64()),
        ("costs", pa.list_(pa.float64())),
        ("behaviour", pa.string()),
        ("signature", pa.list_(pa.uint64())),
        ("missing_layers", pa.string()),
    ]
)


def judge(referee: Referee, completions: list[str]) -> list[tuple[str | None, Verdict]]:
    """Return (program, verdict) of each completion, in order. program: None where there is none."""
    task = referee.task
    programs: list[str | Refused] = []
    for completion in completions:
        try:
            programs.append(extract(completion, task.rollout.FUNCTION, task.rollout.N_ARGUMENTS, task.template))
        except Refused as refused:
            programs.append(refused)
    verdicts = iter(referee.judge(program for program in programs if isinstance(program, str)))
    return [
        (None, Verdict(program.status, program.reason)) if isinstance(program, Refused) else (program, next(verdicts))
        for program in programs
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
