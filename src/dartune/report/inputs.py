"""Reads files of earlier stages; a UserError says which stage to run where one is missing."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from dartune.errors import UserError
from dartune.files import parquet


def read_json(file: Path, maker: str) -> dict[str, Any]:
    """Return the content of a metrics file. Raises UserError, naming its maker, where it is missing, cut or empty."""
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise missing(file, maker) from error
    except ValueError as error:
        raise UserError(f"report: {file} is not whole ({error}); run {maker} again") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"report: {file} holds no metrics; run {maker} again")
    return content


def read_table(file: Path, columns: list[str], maker: str) -> pa.Table:
    """Return these columns of a table. Raises UserError, naming its maker, where the file or a column is missing."""
    if not file.exists():
        raise missing(file, maker)
    try:
        table = parquet.read(file)
    except UserError as mistake:
        raise UserError(f"report: {mistake}: {maker}") from mistake
    if absent := [name for name in columns if name not in table.column_names]:
        raise UserError(f"report: {file} has no column {absent[0]!r}; run {maker} again")
    return table.select(columns)


def missing(file: Path, maker: str) -> UserError:
    """Return the error to raise for a file that does not exist."""
    return UserError(f"report: {file} is missing; {maker} makes it")
