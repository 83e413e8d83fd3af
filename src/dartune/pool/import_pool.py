"""`dartune import-pool`: turns the logs of other tools into a pool. Scores are not imported: the referee makes them.

A file is JSON lines, or JSON: a list of records, or one record. Nothing is unpickled. A record has at least one of
these fields, and may have prompt and model as text:

- dartune's own schema: completion, as a model wrote it, or program
- LLM4AD (Optima-CityU/LLM4AD, llm4ad/tools/profiler/profile.py at 0ed00c6): program, or function where that is ""
- FunSearch with samples_*.json (RayZhhh/funsearch, implementation/profile.py at 4b8b4e7): function
- EoH (FeiLiu36/EoH, population_generation_*.json at cc26c3a): code
- EvoTune (CLAIRE-Labo/EvoTune, src/packing/logging/function_class.py at 260372d): function_str and imports_str
- FunSearch (google-deepmind/funsearch, implementation/code_manipulation.py at b02fdbf): body and args
"""

import hashlib
import json
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

import pyarrow as pa

from dartune.errors import UserError
from dartune.files import json_lines, parquet
from dartune.pool.pool import POOL_SCHEMA
from dartune.tasks.task import Task

FIELDS = ("completion", "program", "function", "code", "function_str", "body")  # that can hold a program
EXPECTED = "expected JSON lines or JSON with a program in every record"


class Record(NamedTuple):
    """One object of a file. place: the file and the line or number in it. source: the file's fingerprint."""

    fields: dict[str, Any]
    place: str
    source: str

    def text(self, field: str) -> str:
        """Return the field's text; "" if it has none: EvoTune's prompt, for example, is an object of numbers."""
        value = self.fields.get(field)
        return value if isinstance(value, str) and value.strip() else ""


def import_pool(task_name: str, files: list[Path], folder: Path) -> str:
    """Write the programs to folder/<task>.parquet (POOL_SCHEMA). Return a line that says what was written.

    Raises UserError about the first record without a program; nothing is written then.
    """
    task, output = Task(task_name), folder / f"{task_name}.parquet"
    records = [record for file in files for record in read(file)]
    rows = [row(i, text, record, task) for i, (text, record) in enumerate(distinct(records, task).items())]
    replaced = " (replaced)" if output.exists() else ""
    parquet.write(pa.Table.from_pylist(rows, schema=POOL_SCHEMA), output)
    return (
        f"{output}{replaced}: {len(rows)} programs of {len(records)} records, {len(records) - len(rows)} duplicates"
        " dropped; scores are not taken over, since the referee always makes them anew."
        f" Next: `pool.source: {folder}` in params.yaml, then `dvc repro`"
    )


def read(file: Path) -> list[Record]:
    """Return the records of a file. Raises UserError if there is none, or one is malformed."""
    content = json_lines.read_bytes(file, EXPECTED)
    source = f"imported:{hashlib.sha256(content).hexdigest()[:16]}"
    records = values(json_lines.decoded(content, file, f"{EXPECTED}. Pickles are not read: they can run code"), file)
    if not records:
        raise UserError(f"{file}: there is no record in it; {EXPECTED}")
    places = [(f"{file}: {place}", value) for place, value in records]
    return [Record(json_lines.checked_object(value, place, EXPECTED), place, source) for place, value in places]


def values(text: str, file: Path) -> list[tuple[str, Any]]:
    """Return (place, value) of everything that should be a record. Raises UserError where the text does not parse.

    A file is JSON lines if it has several lines and the first one parses on its own.
    """
    lines = json_lines.numbered_lines(text)
    if len(lines) > 1 and is_json(lines[0][1]):
        return [(f"line {number}", json_lines.parse(line, file, number, EXPECTED)) for number, line in lines]
    whole = json_lines.parse(text, file, 1, EXPECTED) if lines else []
    return [(f"record {n}", value) for n, value in enumerate(whole if isinstance(whole, list) else [whole], start=1)]


def is_json(text: str) -> bool:
    """Return whether the text parses."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def distinct(records: list[Record], task: Task) -> dict[str, Record]:
    """Return {completion: the first record with it}. Raises UserError about a record without a program.

    A record is a duplicate if its completion equals any text of an earlier record: LLM4AD's samples_best.json repeats
    the functions of the other files without their imports.
    """
    first: dict[str, Record] = {}
    seen: set[str] = set()
    for record in records:
        completion, *others = programs(record, task)
        if completion not in seen:
            first[completion] = record
        seen.update([completion, *others])
    return first


def programs(record: Record, task: Task) -> list[str]:
    """Return the record's program in every form that the record has, the most complete first.

    Raises UserError if it has none.
    """
    function, body = record.text("function_str"), record.text("body").strip("\n")
    texts = [record.text(field) for field in ("completion", "program", "function", "code")]
    if function:  # EvoTune has the imports in a field of their own
        texts.append("\n".join(filter(None, [record.text("imports_str"), function])))
    if body:  # FunSearch has arguments and body; a body alone gets the template's signature
        arguments = record.text("args")
        signature = f"def {task.rollout.FUNCTION}({arguments}):" if arguments else task.signature
        texts.append(f"{signature}\n{body if body[0].isspace() else indent(body, '    ')}\n")
    if not any(texts):
        fields = ", ".join(list(record.fields)[:8]) or "nothing"
        raise UserError(f"{record.place} has no program, only {fields}; expected text in one of {', '.join(FIELDS)}")
    return [text for text in texts if text]


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
