"""A journal of finished batches, so that a killed stage goes on where it stopped.

Batches lie in .work/<stage>/<fingerprint>/, outside DVC's outputs, which DVC deletes before a stage runs. The
fingerprint covers everything that decides the result: another seed, model or source file starts an empty journal.
"""

import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dartune.files import parquet

WORK = Path(".work")


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
        if not parquet.is_whole(file, len(rows)):
            parquet.write(batch(rows), file)
            fresh += len(rows)
        tables.append(pq.read_table(file))
        after(tables[-1])
        counts.update(tables[-1][tally].to_pylist() if tally else ())
        if fresh:
            progress(stage, rows.stop, n_rows, fresh, time.monotonic() - start, counts)
    table = pa.concat_tables(tables)
    parquet.write(table, output)
    shutil.rmtree(journal)
    return table


def progress(stage: str, done: int, total: int, fresh: int, seconds: float, counts: Counter[str]) -> None:
    """One line of progress with the rate, the time left and the counts, the highest first."""
    rate = fresh / max(seconds, 1e-9)
    left = (total - done) / max(rate, 1e-9)
    tally = "".join(f", {n} {value}" for value, n in counts.most_common())
    print(f"{stage}: {done} of {total}, {rate:.0f}/s, {left:.0f} s left{tally}", file=sys.stderr, flush=True)


def last_checkpoint(work: Path) -> str | None:
    """The newest whole checkpoint of a trainer; one that was cut while being written is removed."""
    checkpoints = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    whole = [path for path in checkpoints if (path / "trainer_state.json").exists()]  # the trainer writes it last
    for path in set(checkpoints) - set(whole):
        shutil.rmtree(path)
    return str(whole[-1]) if whole else None
