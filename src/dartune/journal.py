"""A journal of finished batches, so that a killed stage goes on where it stopped.

Batches lie in .work/<stage>/<fingerprint>/, outside DVC's outputs, which DVC deletes before a stage runs. The
fingerprint covers everything that decides the result: another seed, model or source file starts an empty journal.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dartune.mistake import Mistake

WORK = Path(".work")


def fingerprint(files: Iterable[Path], **settings: Any) -> str:
    """Hash of the contents of files (folders: all files in them) and of the settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for file in files:
        for path in sorted(file.rglob("*")) if file.is_dir() else [file]:
            if path.is_file() and path.suffix != ".pyc":
                digest.update(str(path.relative_to(file)).encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def folder(stage: str, key: str) -> Path:
    """The journal's folder; journals of the same stage with another fingerprint are of no use any more."""
    path = WORK / stage.replace(" ", "/") / key
    for other in path.parent.glob("*"):
        if other != path:
            shutil.rmtree(other, ignore_errors=True)
    path.mkdir(parents=True, exist_ok=True)
    return path


def run(
    stage: str,
    key: str,
    n_rows: int,
    size: int,
    batch: Callable[[range], pa.Table],
    output: Path,
    tally: str | None = None,
    after: Callable[[pa.Table], None] = lambda _: None,
) -> pa.Table:
    """Make a table of n_rows in batches of `size` rows, each kept when done, and publish it at output at once.

    stage: folder below .work (a blank parts stage and task), also the prefix of progress lines. batch: makes the rows
    of one range. tally: column whose values are counted in the progress lines. after: is shown each batch in order,
    also those that an earlier run made.
    """
    journal, start, fresh = folder(stage, key), time.monotonic(), 0
    tables: list[pa.Table] = []
    counts: Counter[str] = Counter()
    for first in range(0, n_rows, size):
        rows = range(first, min(first + size, n_rows))
        file = journal / f"{first:08d}.parquet"
        if not is_whole(file, len(rows)):
            write(batch(rows), file)
            fresh += len(rows)
        tables.append(pq.read_table(file))
        after(tables[-1])
        counts.update(tables[-1][tally].to_pylist() if tally else ())
        if fresh:
            progress(stage, rows.stop, n_rows, fresh, time.monotonic() - start, counts)
    table = pa.concat_tables(tables)
    write(table, output)
    shutil.rmtree(journal)
    return table


def is_whole(file: Path, n_rows: int) -> bool:
    """Whether a batch is there. What a disk lost, with its power or otherwise, is made again."""
    try:
        return len(pq.read_table(file)) == n_rows
    except (OSError, pa.ArrowInvalid):
        return False


def write(table: pa.Table, file: Path) -> None:
    """Write Parquet under another name and rename it once it is on the disk: so what has the name is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    pq.write_table(table, partial)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(partial, file)


def publish(write: Callable[[Path], object], folder: Path) -> None:
    """Have a folder written under another name, and rename it once it is whole: what was there is kept until then."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    write(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def read(file: Path) -> pa.Table:
    """A Parquet file of an earlier stage, or a Mistake when it is missing or cut."""
    try:
        return pq.read_table(file)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise Mistake(f"{file}: not a whole Parquet file ({reason}); delete it and run the stage again") from error


def progress(stage: str, done: int, total: int, fresh: int, seconds: float, counts: Counter[str]) -> None:
    """One line of progress with the rate, the time left and the counts, the highest first."""
    rate = fresh / max(seconds, 1e-9)
    left = (total - done) / max(rate, 1e-9)
    tally = "".join(f", {n} {value}" for value, n in counts.most_common())
    print(f"{stage}: {done} of {total}, {rate:.0f}/s, {left:.0f} s left{tally}", file=sys.stderr, flush=True)


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Metrics: small, sorted as given, the same bytes for the same numbers."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def last_checkpoint(work: Path) -> str | None:
    """The newest whole checkpoint of a trainer; one that was cut while being written is removed."""
    checkpoints = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    whole = [path for path in checkpoints if (path / "trainer_state.json").exists()]  # the trainer writes it last
    for path in set(checkpoints) - set(whole):
        shutil.rmtree(path)
    return str(whole[-1]) if whole else None
