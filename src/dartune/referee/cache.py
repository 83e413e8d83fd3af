"""VerdictCache that were made before: verdicts by program, kept across runs and models.

One folder per setting (task, its version, split, limits), in it one Parquet file per batch, written whole under another
name first. So a kill loses the batch that was being judged and nothing else, and several processes may write at once:
none touches another's files. Two that judge the same program at the same time write the same row twice.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dartune.errors import UserError
from dartune.files import batches, parquet
from dartune.files.scratch import own_name, sweep
from dartune.programs.verdict import Verdict

VERDICT = pa.schema(
    [
        ("status", pa.string()),
        ("reason", pa.string()),
        ("score", pa.float64()),
        ("costs", pa.list_(pa.float64())),
        ("behaviour", pa.string()),
        ("signature", pa.list_(pa.uint64())),
        ("missing_layers", pa.string()),
    ]
)
EVALUATION = pa.schema([("key", pa.string()), *VERDICT, ("cpu_s", pa.float64())])  # key: hash of the normal form
MAX_FILES = 100  # more are joined into one when they are read


class VerdictCache:
    """The verdicts of one setting, by program key."""

    def __init__(self, task: str, setting: str) -> None:
        self._folder = batches.WORK / "evaluations" / task / setting
        sweep(self._folder.glob("*-*-*.partial"))
        self._verdicts: dict[str, Verdict] = {}
        files = sorted(self._folder.glob("*.parquet"))
        for file in files:
            self._verdicts.update(load(file))
        if len(files) > MAX_FILES:
            self._write(self._verdicts)
            for file in files:
                file.unlink(missing_ok=True)

    def __contains__(self, key: str) -> bool:
        return key in self._verdicts

    def __getitem__(self, key: str) -> Verdict:
        return self._verdicts[key]

    def add(self, verdicts: dict[str, Verdict]) -> None:
        """Keep these too, on disk when this returns."""
        self._verdicts.update(verdicts)
        if verdicts:
            self._write(verdicts)

    def agree(self, name: str, value: float) -> float:
        """The number that goes by this name in this setting: the given one, unless another process was first."""
        file = self._folder / f"{name}.txt"
        partial = self._folder / f"{own_name()}.partial"
        with writable(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            partial.write_text(repr(value))
            try:
                os.link(partial, file)  # fails where the file exists, and never leaves half of one
            except FileExistsError:
                pass
            finally:
                partial.unlink()
        return float(file.read_text())

    def agreed(self, name: str) -> float | None:
        file = self._folder / f"{name}.txt"
        return float(file.read_text()) if file.exists() else None

    def _write(self, verdicts: dict[str, Verdict]) -> None:
        rows = [{"key": key, **vars(verdict)} for key, verdict in verdicts.items()]
        with writable(self._folder):
            parquet.write(pa.Table.from_pylist(rows, schema=EVALUATION), self._folder / f"{own_name()}.parquet")


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """A block that writes to the folder; what keeps it from that is a UserError."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise UserError(
            f"{folder}: evaluations cannot be kept there ({why}); make room or the folder writable"
        ) from error


def load(file: Path) -> dict[str, Verdict]:
    """The verdicts in a file; none when another process has just joined it with others, or when it is damaged."""
    try:
        rows = pq.read_table(file, schema=EVALUATION).to_pylist()
    except FileNotFoundError:
        return {}
    except (OSError, pa.ArrowInvalid) as error:
        print(f"{file}: not a whole Parquet file, its evaluations are made again ({error})", file=sys.stderr)
        file.unlink(missing_ok=True)
        return {}
    return {row.pop("key"): Verdict(**{name: hashable(value) for name, value in row.items()}) for row in rows}


def hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
