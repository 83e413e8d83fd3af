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
- chats and answers of servers: response, text, output, answer; the last of messages by the assistant; each of choices
- a map of names to programs, or a list of programs, as texts; .py, .md and .txt files, one answer each
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
from dartune.programs.blocks import DEFINES

CODE = ("program", "function", "code")  # which other tools use for names and hashes, too
ANSWERS = ("response", "text", "output", "answer")
FIELDS = ("completion", *CODE, *ANSWERS, "messages", "choices", "function_str", "body")
EXPECTED = "expected records with a program, in JSON, CSV, Parquet or SQLite"
TEXTS = (".py", ".md", ".txt")
TABLES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".sqlite", ".db")


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
        codes = [self.text(field) for field in CODE]
        texts = [self.text("completion"), *(code for code in codes if DEFINES.search(code))]
        texts += [*(self.text(field) for field in ANSWERS), chat_text(self.fields)]
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
        texts = [value for value in values if isinstance(value, str)]
        return "no code" if any(map(str.strip, texts)) else "empty" if texts else "no text"


def chat_text(fields: dict[str, Any]) -> str:
    """Return what the assistant said last, in messages or in an answer's one choice; "" where there is neither."""
    choices, messages = fields.get("choices"), fields.get("messages")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message")
        return content_text(message.get("content") if isinstance(message, dict) else choices[0].get("text"))
    said = [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
    contents = [content_text(message.get("content")) for message in said if message.get("role") == "assistant"]
    with_code = [content for content in contents if DEFINES.search(content)]  # the last turn may be a courtesy
    return (with_code or contents or [""])[-1]


def content_text(content: Any) -> str:
    """Return the text of a message's content, which may be a list of parts."""
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def read(path: Path, column: str | None) -> list[Record]:
    """Return the records of a file, or of all files below a folder. Raises UserError if there is none.

    A file of a folder that holds no records, one of settings for example, is named and left out.
    """
    if path.is_dir():
        found = []
        for file in sorted(file for file in path.rglob("*") if file.suffix.lower() in TEXTS + TABLES):
            try:
                found += read(file, column)
            except UserError as error:
                print(f"left out: {error}", file=sys.stderr)
        if not found:
            raise UserError(f"{path}: no file of it has records; {EXPECTED}")
        return found
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
        if file.suffix.lower() in (".csv", ".tsv"):
            csv.field_size_limit(sys.maxsize)
            head = text.partition("\n")[0]
            delimiter = max(",;\t", key=head.count)
            yield from numbered("row", list(csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter)))
        elif file.suffix.lower() in TEXTS:
            yield "text", {"completion": text}
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
        is_program = isinstance(value, str) and DEFINES.search(value)
        records = list(below(value, place, column)) or [(place, {"program": value} if is_program else value)]
        yield from ((at, json_lines.checked_object(fields, f"{file}: {at}", EXPECTED)) for at, fields in records)


def is_json(text: str) -> bool:
    """Return whether the text parses."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def below(value: Any, place: str, column: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, fields) of the records in a JSON value, however deep they lie in it.

    An object with a program is one; else what is in it is looked through, and it is one without a program where that
    holds none and it has a field for one. Texts are programs in a list or a map of nothing but texts.
    """
    if isinstance(value, dict) and (column or "") not in value:
        choices = value.get("choices")
        if isinstance(choices, list) and len(choices) > 1:
            yield from ((f"{place}, choice {n}", value | {"choices": [one]}) for n, one in enumerate(choices, 1))
            return
        if Record(value, place, "").programs("", "", column):
            yield place, value
            return
    elif isinstance(value, dict):
        yield place, value
        return
    children = list(
        value.items() if isinstance(value, dict) else enumerate(value, 1) if isinstance(value, list) else ()
    )
    if children and all(isinstance(child, str) for _, child in children) and not is_record(value):
        texts = [(key, child) for key, child in children if DEFINES.search(child)]
        yield from ((f"{place}, {key}", {"program": child}) for key, child in texts)
        return
    found = [record for key, child in children for record in below(child, f"{place}, {key}", column)]
    yield from found or ([(place, value)] if is_record(value) else [])


def is_record(value: Any) -> bool:
    """Return whether a JSON value is an object with a field that could hold a program, or a prompt."""
    return isinstance(value, dict) and not {*FIELDS, "prompt", "instruction", "question"}.isdisjoint(value)
