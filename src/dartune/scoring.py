"""Scores: the pool's rows with the program found in each completion and the referee's verdict on it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import PositiveFloat, PositiveInt

from dartune import journal
from dartune.checkpoint import is_novel
from dartune.evaluations import VERDICT
from dartune.extraction import extract
from dartune.referee import RULES, Referee
from dartune.task import TASKS, Task
from dartune.verdict import Refused, Verdict

BATCH = 200
JUDGED = pa.schema([("program", pa.string()), *VERDICT])


def write_scored(
    task: str,
    pool: Path,
    base: Path,
    output: Path,
    metrics: Path,
    *,
    max_slowdown: PositiveFloat,
    memory_mib: PositiveInt,
    cluster: str | None,
) -> None:
    """Write the pool's rows with program and the fields of its verdict (verdict.py) on the training instances.

    max_slowdown, memory_mib, cluster: see Referee. CPU times are not kept: they differ from run to run, and a table
    that differs makes everything after it run again.
    """
    rows = journal.read(pool)
    limits: dict[str, Any] = {"max_slowdown": max_slowdown, "memory_mib": memory_mib}
    key = journal.fingerprint([pool, *sources(task)], **limits)
    with Referee(Task(task), "train", **limits, cluster=cluster) as referee:

        def batch(numbers: range) -> pa.Table:
            part = rows.slice(numbers.start, len(numbers))
            return beside(part, judge(referee, part["completion"].to_pylist()))

        table = journal.run(f"score {task}", key, len(rows), BATCH, batch, output, tally="status")
    journal.write_json(metrics, summary(table, base))


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


def beside(rows: pa.Table, judged: list[tuple[str | None, Verdict]]) -> pa.Table:
    """The rows with the columns of JUDGED."""
    columns = [{"program": program, **vars(verdict)} for program, verdict in judged]
    verdicts = pa.Table.from_pylist(columns, schema=JUDGED)
    for name in JUDGED.names:
        rows = rows.append_column(name, verdicts[name])
    return rows


def summary(table: pa.Table, base: Path) -> dict[str, object]:
    """Counts per status, validity, and how much of what is valid is new and acts differently."""
    valid = [row for row in table.select(["program", "status", "behaviour"]).to_pylist() if row["status"] == "ok"]
    novel = is_novel(base)
    return {
        "n_programs": len(table),
        "validity": len(valid) / len(table),
        "distinct_programs": len({row["program"] for row in valid}),
        "distinct_behaviours": len({row["behaviour"] for row in valid}),
        "novelty": sum(novel(row["program"]) for row in valid) / max(len(valid), 1) if novel else None,
        "status": dict(sorted(Counter(table["status"].to_pylist()).items())),
    }


def sources(task: str) -> list[Path]:
    """The files whose text decides a verdict: finished batches are of no use once one of them has changed."""
    here = Path(__file__).parent
    shared = [here / f"{name}.py" for name in (*RULES, "extraction", "scoring")]
    return [*shared, *sorted((TASKS / task).glob("*.py"))]
