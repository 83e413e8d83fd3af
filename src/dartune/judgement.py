"""Judgement: completions in, programs and verdicts out. The same for the pool and for evaluation."""

from pathlib import Path

import pyarrow as pa

from dartune.evaluations import VERDICT
from dartune.extraction import extract
from dartune.mistake import Mistake
from dartune.referee import RULES, Referee
from dartune.task import TASKS
from dartune.verdict import Refused, Verdict

JUDGED = pa.schema([("program", pa.string()), *VERDICT])


def judge(referee: Referee, completions: list[str]) -> list[tuple[str | None, Verdict]]:
    """(program, verdict) of each completion; program is None where there is none."""
    task = referee.task
    found: list[str | Refused] = []
    for completion in completions:
        try:
            found.append(extract(completion, task.rule.FUNCTION, task.rule.N_ARGUMENTS, task.template))
        except Refused as refused:
            found.append(refused)
    verdicts = iter(referee.judge(program for program in found if isinstance(program, str)))
    return [
        (None, Verdict(program.status, program.reason)) if isinstance(program, Refused) else (program, next(verdicts))
        for program in found
    ]


def template_score(referee: Referee) -> float:
    """The score of the program that a model is asked to better, on the referee's instances."""
    (verdict,) = referee.judge([referee.task.template])
    if verdict.score is None:
        raise Mistake(f"{referee.task.name}: its own template program is judged {verdict.status}: {verdict.reason}")
    return verdict.score


def sources(task: str) -> list[Path]:
    """The files whose text decides a verdict: finished batches are of no use once one of them has changed."""
    here = Path(__file__).parent
    shared = [here / f"{name}.py" for name in (*RULES, "extraction", "judgement")]
    return [*shared, *task_files(task)]


def task_files(task: str) -> list[Path]:
    """The files of the task that decide a score."""
    return [TASKS / task / f"{part}.py" for part in ("instances", "referee", "rule", "template")]
