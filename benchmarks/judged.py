"""What the referee makes of a table of answers, without a DVC stage."""

from typing import Any

import numpy as np
import pyarrow as pa

from dartune.evaluation.baseline import COMPLETION_SCHEMA
from dartune.evaluation.evaluate import evaluate, summary
from dartune.files import batches
from dartune.referee.referee import MAX_SLOWDOWN, MEMORY_MIB
from dartune.tasks.task import Task


def judged(task: str, split: str, answers: pa.Table) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the answers with their verdicts, as EVALUATION_SCHEMA, and their summary as of stage evaluate.

    answers: with the columns of COMPLETION_SCHEMA, and others.
    """
    limits = {"max_slowdown": MAX_SLOWDOWN, "memory_mib": MEMORY_MIB, "cluster": None}
    columns, work = answers.select(COMPLETION_SCHEMA.names), batches.WORK / "judged" / task
    table, template = evaluate(Task(task), split, {"base": columns}, limits, task, work)
    rows = table.to_pylist()
    return rows, summary(rows, np.array([row["quality"] for row in rows]), template)
