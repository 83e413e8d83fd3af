"""Parquet files that are written atomically; reading one that is cut raises UserError."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dartune.errors import UserError


def write(table: pa.Table, file: Path) -> None:
    """Write under another name and rename once the bytes are on the disk, so that `file` is always complete."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    pq.write_table(table, partial)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(partial, file)


def read(file: Path) -> pa.Table:
    """Return the table that an earlier stage wrote. Raises UserError where the file is missing or cut."""
    try:
        return pq.read_table(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise damaged(file, error) from error


def checked_path(file: Path) -> str:
    """Return the path of a file, for DuckDB to read. Raises UserError where it is missing or cut.

    Reads only the footer, which is written last.
    """
    try:
        pq.read_metadata(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise damaged(file, error) from error
    return str(file)


def is_complete(file: Path, n_rows: int) -> bool:
    """Return whether the file exists, is readable to its end and has `n_rows` rows."""
    try:
        return len(pq.read_table(file)) == n_rows
    except (OSError, pa.ArrowInvalid):
        return False


def damaged(file: Path, error: Exception) -> UserError:
    """Return the error to raise for a file that cannot be read."""
    reason = str(error).splitlines()[0]
    return UserError(f"{file}: not a whole Parquet file ({reason}); delete it and run the stage again")
