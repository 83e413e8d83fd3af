"""Tables written in batches, so that a stage that was killed resumes at its unfinished batch.

Finished batches lie in .work/<stage>/<key>/, outside DVC's outputs, which DVC deletes before a stage runs. The key is a
fingerprint of everything that decides the result: with another seed, model or source file a stage starts over. DVC also
deletes the tree in which it ran an experiment: $DARTUNE_WORK is the folder in the place of .work, where that is set.
"""

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dartune.files import parquet

WORK = Path(os.environ.get("DARTUNE_WORK", ".work"))


def folder(stage: str, key: str) -> Path:
    """Create and return the folder of a stage's unfinished work; folders of other keys are removed."""
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
    """Return a table of n_rows, made in batches of `size` rows and written to `output` when complete.

    stage: names the folder of unfinished work ("pool tsp_construct": .work/pool/tsp_construct) and begins progress
    lines. key: see above. batch: returns the rows of a range. tally: a column whose values progress lines count.
    after: is called with every batch in order, including those of an earlier run.
    """
    work, start, n_new = folder(stage, key), time.monotonic(), 0
    tables: list[pa.Table] = []
    counts: Counter[str] = Counter()
    for first in range(0, n_rows, size):
        rows = range(first, min(first + size, n_rows))
        file = work / f"{first:08d}.parquet"
        if not parquet.is_complete(file, len(rows)):
            parquet.write(batch(rows), file)
            n_new += len(rows)
        tables.append(pq.read_table(file))
        after(tables[-1])
        counts.update(tables[-1][tally].to_pylist() if tally else ())
        if n_new:
            print_progress(stage, rows.stop, n_rows, n_new / max(time.monotonic() - start, 1e-9), counts)
    table = pa.concat_tables(tables)
    parquet.write(table, output)
    shutil.rmtree(work)
    return table


def print_progress(stage: str, done: int, total: int, rate: float, counts: Counter[str]) -> None:
    """Print rows done, rows per second, seconds left and the counts, the highest first, as one line on stderr."""
    left = (total - done) / max(rate, 1e-9)
    digits = 0 if rate >= 10 else 2  # a real model on a CPU has .85 answers a second
    tally = "".join(f", {n} {value}" for value, n in counts.most_common())
    print(f"{stage}: {done} of {total}, {rate:.{digits}f}/s, {left:.0f} s left{tally}", file=sys.stderr, flush=True)


def last_checkpoint(work: Path) -> str | None:
    """Return the path of a trainer's newest complete checkpoint, if any; remove those that a kill left incomplete."""
    checkpoints = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    complete = [path for path in checkpoints if (path / "trainer_state.json").exists()]  # the trainer writes it last
    for path in set(checkpoints) - set(complete):
        shutil.rmtree(path)
    return str(complete[-1]) if complete else None


def remove_checkpoints(work: Path) -> None:
    """Remove a trainer's checkpoints, once it has ended."""
    for path in work.glob("checkpoint-*"):
        shutil.rmtree(path)
