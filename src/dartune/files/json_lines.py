"""JSON that people bring, most of it JSON lines: read with one-line errors that name the place.

expected: how an error ends, "expected ...". place: how an error begins, a file with a line or a number in it.
"""

import json
from pathlib import Path
from typing import Any

from dartune.errors import UserError


def read_bytes(file: Path, expected: str) -> bytes:
    """Return the bytes of a file. Raises UserError where it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {(error.strerror or str(error)).lower()}; {expected}") from error


def decoded(content: bytes, file: Path, expected: str) -> str:
    """Return the text of a file without a byte order mark. Raises UserError where it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{file}: line {line} is not UTF-8 text; {expected}") from error


def numbered_lines(text: str) -> list[tuple[int, str]]:
    """Return (number from 1, line) of each line that is not blank. A line ends with a line feed only, as in JSON."""
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def parse(text: str, file: Path, line: int, expected: str) -> Any:
    """Return the JSON value. Raises UserError where it does not parse. line: the text's first line in the file."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        number, reason = line + getattr(error, "lineno", 1) - 1, getattr(error, "msg", str(error)).lower()
        raise UserError(f"{file}: line {number} is not JSON ({reason}); {expected}") from error


def checked_object(value: Any, place: str, expected: str) -> dict[str, Any]:
    """Return a JSON value that is an object. Raises UserError for others, and for halves of characters in it."""
    if not isinstance(value, dict):
        raise UserError(f"{place} is {json.dumps(value)[:40]}; {expected}")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # a lone surrogate, which UTF-8 cannot encode
        raise UserError(f"{place} holds half a character (\\u{ord(error.object[error.start]):x}); repair it") from error
    return value
