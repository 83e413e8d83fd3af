"""Records in the logs of other tools: JSON of any shape, JSON lines, CSV, Parquet, SQLite, and folders of these.

Nothing is unpickled. A record has at least one of FIELDS, and may have prompt and model as text:

- dartune's own schema: completion, as a model wrote it, or program
- LLM4AD (Optima-CityU/LLM4AD, llm4ad/tools/profiler/profile.py at 0ed00c6): program, or function where that is ""
- FunSearch with samples_*.json (RayZhhh/funsearch, implementation/profile.py at 4b8b4e7): function
- EoH (FeiLiu36/EoH, population_generation_*.json at cc26c3a): code, null where the answer had none
- OpenEvolve (checkpoints: programs/<id>.json, or one object with all of them): code
- ShinkaEvolve (SQLite, table programs): code
- EvoTune (CLAIRE-Labo/EvoTune, src/packing/logging/function_class.py at 260372d): function_str and imports_str
- FunSearch (google-deepmind/funsearch, implementation/code_manipulation.py at b02fdbf): body and args
- chats: response, the last of messages by the assistant, or the first of choices
- a map of names to programs, or a list of programs, as texts
"""

import csv
import hashlib
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

from dartune.errors import UserError
from dartune.files import json_lines, parquet

FIELDS = ("completion", "program", "function", "code", "response", "messages", "choices", "function_str", "body")
EXPECTED = "expected records with a program, in JSON, CSV, Parquet or SQLite"
SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".sqlite", ".db")  # of the files that are read of a folder
DEFINES = ("def ", "lambda")  # a text with neither is no program


class Record(NamedTuple):
    """One object of a file. place: the file and the line or number in it. source: the file's fingerprint."""

    fields: dict[str, Any]
    place: str
    source: str

    def text(self, field: str) -> str:
        """Return the field's text; "" if it has none: EvoTune's prompt, for example, is an object of numbers."""
        value = self.fields.get(field)
        return value if isinstance(value, str) and value.strip() else ""

    def programs(self, function: str, signature: str, column: str | None) -> list[str]:
        """Return the record's program in every form that it has, the most complete first; [] without any.

        function, signature: of the task, for bodies without a head. column: the one field to read.
        """
        if column:
            return [text for text in [self.text(column)] if text]
        texts = [self.text(field) for field in ("completion", "program", "function", "code", "response")]
        texts.append(chat_text(self.fields))
        if code := self.text("function_str"):  # EvoTune has the imports in a field of their own
            texts.append("\n".join(filter(None, [self.text("imports_str"), code])))
        if body := self.text("body").strip("\n"):  # FunSearch has arguments and body; a body alone gets the template's
            head = f"def {function}({self.text('args')}):" if self.text("args") else signature
            texts.append(f"{head}\n{body if body[0].isspace() else indent(body, '    ')}\n")
        return [text for text in texts if text]

    def absence(self, column: str | None) -> str:
        """Return in a word or two why there is no program."""
        values = [self.fields[name] for name in ([column] if column else FIELDS) if name in self.fields]
        if not values:
            return "without a field for one"
        if None in values:
            return "null"
        return "empty" if any(isinstance(value, str) for value in values) else "no text"


def chat_text(fields: dict[str, Any]) -> str:
    """Return what the assistant said last, in the form of messages or of an answer's choices; "" where neither is."""
    choices, messages = fields.get("choices"), fields.get("messages")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message")
        content = message.get("content") if isinstance(message, dict) else choices[0].get("text")
        return content if isinstance(content, str) else ""
    said = [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
    contents = [message.get("content") for message in said if message.get("role") == "assistant"]
    return contents[-1] if contents and isinstance(contents[-1], str) else ""


def read(path: Path, column: str | None) -> list[Record]:
    """Return the records of a file, or of all files below a folder. Raises UserError if there is none."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        if not files:
            raise UserError(f"{path}: no file of it ends with {', '.join(SUFFIXES)}; {EXPECTED}")
        return [record for file in files for record in read(file, column)]
    content = json_lines.read_bytes(path, EXPECTED)
    source = f"imported:{hashlib.sha256(content).hexdigest()[:16]}"
    records = [Record(fields, f"{path}: {place}", source) for place, fields in values(content, path, column)]
    if not records:
        raise UserError(f"{path}: there is no record in it; {EXPECTED}")
    return records


def values(content: bytes, file: Path, column: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, fields) of everything that should be a record, by what the file's first bytes say that it is."""
    if content.startswith(b"PAR1"):
        yield from numbered("row", parquet.read(file).to_pylist())
    elif content.startswith(b"SQLite format 3\0"):
        yield from sqlite_rows(file, column)
    elif b"\0" in content[:8192]:
        raise UserError(f"{file}: a binary file; {EXPECTED}. Pickles are not read: they can run code")
    else:
        text = json_lines.decoded(content, file, f"{EXPECTED}. Pickles are not read: they can run code")
        if file.suffix == ".csv":
            csv.field_size_limit(sys.maxsize)
            yield from numbered("row", list(csv.DictReader(text.splitlines(keepends=True))))
        else:
            yield from json_values(text, file, column)


def numbered(word: str, rows: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, row) of the rows of a table."""
    yield from ((f"{word} {number}", row) for number, row in enumerate(rows, 1))


def sqlite_rows(file: Path, column: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of all tables that have a field for a program. Raises UserError for a damaged file."""
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                rows = database.execute('SELECT * FROM "{}"'.format(table.replace('"', '""')))
                names = {description[0] for description in rows.description}
                if names & {column or "", *FIELDS}:
                    yield from numbered(f"table {table}, row", [dict(row) for row in rows])
    except sqlite3.Error as error:
        raise UserError(f"{file}: SQLite cannot read it ({error}); {EXPECTED}") from error


def json_values(text: str, file: Path, column: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the records of a JSON text, which is JSON lines if it has several and the first one parses on its own.

    Raises UserError where it does not parse, or for a value that cannot be a record.
    """
    lines = json_lines.numbered_lines(text)
    if len(lines) > 1 and is_json(lines[0][1]):
        tops = [(f"line {number}", json_lines.parse(line, file, number, EXPECTED)) for number, line in lines]
    else:
        whole = json_lines.parse(text, file, 1, EXPECTED) if lines else []
        tops = [(f"record {n}", value) for n, value in enumerate(whole if isinstance(whole, list) else [whole], 1)]
    for place, value in tops:
        records = list(below(value, place, column)) or [(place, value)]
        yield from ((at, json_lines.checked_object(fields, f"{file}: {at}", EXPECTED)) for at, fields in records)


def is_json(text: str) -> bool:
    """Return whether the text parses."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def below(value: Any, place: str, column: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, fields) of the records in a JSON value, however deep they lie in it."""
    if isinstance(value, str) and any(word in value for word in DEFINES):
        yield place, {"program": value}
    elif isinstance(value, dict) and not {column or "", *FIELDS}.isdisjoint(value):
        yield place, value
    elif isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value, 1)
        for key, child in items:
            yield from below(child, f"{place}, {key}", column)
