"""Stage `score`: adds to each row of a pool the program in its completion, the program's traits and its verdict."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import PositiveFloat, PositiveInt

from dartune.files import atomic, batches, parquet
from dartune.files.fingerprint import fingerprint
from dartune.files.modules import code_fingerprint, judging
from dartune.models.checkpoint import is_novel
from dartune.programs.features import text_fingerprint, traits
from dartune.referee.completions import PROGRAM_SCHEMA, Judged, equals_template, judge, template_score
from dartune.referee.referee import INTERPRETER, Referee, code_version
from dartune.tasks.task import Task

BATCH = 200
SPLIT = "train"
# Metric -> the column whose different values it counts, among the valid programs.
DISTINCT = {
    "distinct_programs": "program",
    "distinct_trees": "tree",
    "distinct_shapes": "shape",
    "distinct_behaviours": "behaviour",
    "distinct_score_signatures": "score_signature",
    "families": "family",
}
TRAITS = pa.schema(
    [
        ("text", pa.uint64()),
        ("tree", pa.uint64()),
        ("shape", pa.uint64()),
        ("n_characters", pa.int64()),
        ("family", pa.string()),
        ("score_signature", pa.uint64()),
        ("equals_template", pa.bool_()),
    ]
)


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
    """Write the pool's rows with the columns of PROGRAM_SCHEMA, judged on the training instances, and of TRAITS.

    score_signature: fingerprint of the exact costs, null without. equals_template: whether the score is the template's.
    For the other traits see programs/features.py.
    max_slowdown, memory_mib, cluster: see Referee. Every row also has split, task_version and the limits, which pairs
    inherit. CPU times are left out: a table that differs from run to run makes all later stages run again.
    """
    rows = parquet.read(pool)
    limits: dict[str, Any] = {"max_slowdown": max_slowdown, "memory_mib": memory_mib}
    settings = {"split": SPLIT, "task_version": task_version(Task(task)), **limits}
    made_by = {"code": code_fingerprint(__name__), "referee": code_version(Task(task)), "interpreter": INTERPRETER}
    key = fingerprint([pool], **made_by, **limits)
    with Referee(Task(task), SPLIT, **limits, cluster=cluster) as referee:

        def batch(numbers: range) -> pa.Table:
            """Return these rows of the pool with the new columns."""
            part = rows.slice(numbers.start, len(numbers))
            judged = judge(referee, part["completion"].to_pylist())
            return add_columns(part, judged, referee.task.rollout.FUNCTION, settings, template)

        template = template_score(referee)
        table = batches.run(f"score {task}", key, len(rows), BATCH, batch, output, tally="status")
    atomic.write_json(metrics, summary(table, base))


def task_version(task: Task) -> str:
    """Return a hash of the parts of a task that affect verdicts: instances, rollout, cost and template."""
    return fingerprint([task.file], code=code_fingerprint(*judging(task.folder), within="dartune.tasks"))


def add_columns(
    rows: pa.Table, judged: list[Judged], function: str, settings: dict[str, Any], template: float
) -> pa.Table:
    """Return the rows with the columns of PROGRAM_SCHEMA and TRAITS, and one column for each setting.

    template: score of the task's template.
    """
    columns = [
        {
            **one.columns(),
            **traits(one.program, function),
            "score_signature": text_fingerprint(repr(one.verdict.costs)) if one.verdict.costs else None,
            "equals_template": one.verdict.score is not None and equals_template(one.verdict.score, template),
        }
        for one in judged
    ]
    table = pa.Table.from_pylist(columns, schema=pa.schema([*PROGRAM_SCHEMA, *TRAITS]))
    for name in table.column_names:
        rows = rows.append_column(name, table[name])
    for name, value in settings.items():
        rows = rows.append_column(name, pa.array([value] * len(rows)))
    return rows


def summary(table: pa.Table, base: Path) -> dict[str, object]:
    """Return the stage's metrics: counts by status and extraction, validity, and how new and varied valid ones are."""
    valid = [row for row in table.select(["status", *DISTINCT.values()]).to_pylist() if row["status"] == "ok"]
    novel = is_novel(base)
    return {
        "n_programs": len(table),
        "validity": len(valid) / len(table),
        **{metric: len({row[column] for row in valid}) for metric, column in DISTINCT.items()},
        "novelty": sum(novel(row["program"]) for row in valid) / max(len(valid), 1) if novel else None,
        "status": counts(table["status"]),
        "extraction": counts(table["extraction"].drop_null()),
        "interpreter": INTERPRETER,
    }


def counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each value occurs, by value."""
    return dict(sorted(Counter(column.to_pylist()).items()))
