"""`dartune import-pool`: makes a pool of the logs of other tools. Scores are not imported: the referee makes them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from dartune.errors import UserError
from dartune.files import parquet
from dartune.pool.pool import POOL_SCHEMA
from dartune.pool.records import FIELDS, Record, read
from dartune.referee.referee import INTERPRETER
from dartune.tasks.task import Task


def import_pool(
    task_name: str, files: list[Path], folder: Path, column: str | None = None, first: int | None = None
) -> str:
    """Write the programs to folder/<task>.parquet (POOL_SCHEMA). Return a line that says what was written.

    files: see pool/records.py; folders too. column: the field that holds the program, where it has another name.
    first: the most programs to write; all by default. Raises UserError for a malformed file, or where no record has a
    program; nothing is written then.
    """
    task, output = Task(task_name), folder / f"{task_name}.parquet"
    records = [record for file in files for record in read(file, column)]
    texts = [record.programs(task.rollout.FUNCTION, task.signature, column) for record in records]
    if not any(texts):
        raise UserError(no_program(records[0], column))
    programs = distinct(records, texts)
    rows = [row(i, text, record, task) for i, (text, record) in enumerate(list(programs.items())[:first])]
    replaced = " (replaced)" if output.exists() else ""
    parquet.write(pa.Table.from_pylist(rows, schema=POOL_SCHEMA), output)
    absent = Counter(record.absence(column) for record, found in zip(records, texts, strict=True) if not found)
    n_without = absent.total()
    dropped = [f"{len(records) - n_without - len(programs)} duplicates"]
    dropped += [f"{n_without} without a program ({counted(absent)})"] * bool(absent)
    left_out = f"; {len(programs) - len(rows)} more left out by --first" if len(rows) < len(programs) else ""
    return (
        f"{output}{replaced}: {len(rows)} programs of {len(records)} records, {', '.join(dropped)} dropped{left_out};"
        f" scores are not taken over, since the referee always makes them anew{foreign(records)}."
        f" Next: `pool.source: {folder}` in params.yaml, then `dvc repro`"
    )


def no_program(record: Record, column: str | None) -> str:
    """Return the error about a file none of whose records has a program, with the fields of its first record."""
    fields = ", ".join(list(record.fields)[:8]) or "nothing"
    expected = repr(column) if column else f"one of {', '.join(FIELDS)}; name another by --column"
    return f"{record.place} has no program, only {fields}; expected text in {expected}"


def counted(absent: Counter[str]) -> str:
    """Return how many records had no program, by reason."""
    return ", ".join(f"{n} {reason}" for reason, n in absent.most_common())


def foreign(records: list[Record]) -> str:
    """Return a clause that says which other interpreters judged the records, for those that compare scores."""
    others = sorted({record.text("interpreter") for record in records} - {"", INTERPRETER})
    return f" (theirs by {' and '.join(others)}, here {INTERPRETER}: sums may differ)" if others else ""


def distinct(records: list[Record], texts: list[list[str]]) -> dict[str, Record]:
    """Return {completion: the first record with it}. texts: each record's program in all its forms.

    A record is a duplicate if its completion equals any text of an earlier record: LLM4AD's samples_best.json repeats
    the functions of the other files without their imports.
    """
    first: dict[str, Record] = {}
    seen: set[str] = set()
    for record, forms in zip(records, texts, strict=True):
        if forms and forms[0] not in seen:
            first[forms[0]] = record
        seen.update(forms)
    return first


def row(number: int, completion: str, record: Record, task: Task) -> dict[str, Any]:
    """Return a row of the pool. What is unknown, such as tokens and temperature, is left out and becomes null."""
    return {
        "id": f"{task.name}-imported-{number:06d}",
        "task": task.name,
        "prompt": record.text("prompt") or task.prompt,
        "completion": completion,
        "method": "imported",
        "finish": "imported",
        "model": record.text("model") or record.source,
    }
