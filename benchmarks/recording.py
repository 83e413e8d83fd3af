"""Makes a recording of pools, which `pool.source` can name, so that others go on from it without the model that wrote.

    python benchmarks/recording.py FOLDER POOL.parquet [POOL.parquet ...]

FOLDER/<task>.parquet gets the rows of all the pools of a task, in their order, and FOLDER/README.md says whose they are
and what is in them. It is written anew each time: name all pools of the folder. Prints the card's table.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dartune.files import parquet
from dartune.models.fetch import KNOWN
from dartune.pool.pool import POOL_SCHEMA, SPLIT
from dartune.pool.search_loop import TEMPLATE_ID
from dartune.programs.verdict import Verdict
from dartune.referee.completions import equals_template, judge, template_score
from dartune.referee.referee import MAX_SLOWDOWN, MEMORY_MIB, Referee
from dartune.tasks.task import Task

GROUP = ("task", "method", "temperature", "top_p", "max_new_tokens")
POOL_HEAD = (
    *GROUP,
    "completions",
    "valid",
    "distinct behaviours",
    "copies of the template, of valid",
    "better than it",
)
CHILD_HEAD = ("task", "method", "operation", "children", "valid", "behave like no parent", "better than every parent")
CHILDREN = "What the prompts of searches brought, as shares of all children that had parents of the pool:\n"
CARD = """# Recorded completions of {name}

Written by [{hub}](https://huggingface.co/{hub}), {licence}; its weights quantised to four bits, a GGUF file with the
SHA-256 {digest}. `pool.source: {folder}` in
`params.yaml` takes them as the pool of a task. Columns: `POOL_SCHEMA` in `src/dartune/pool/pool.py`; the prompts are in
the rows. Verdicts are not recorded, since the referee always makes them; the table has those on the split {split}. How
the pools were made: LOG.md.

"""


def main() -> None:
    """Write the recordings and their card."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("pools", type=Path, nargs="+")
    arguments = parser.parse_args()
    by_task: dict[str, list[pa.Table]] = {}
    for file in arguments.pools:
        table = parquet.read(file)
        by_task.setdefault(table["task"][0].as_py(), []).append(renamed(table))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for task, tables in by_task.items():
        write = {"compression": "zstd", "compression_level": 19}
        pq.write_table(pa.concat_tables(tables), arguments.folder / f"{task}.parquet", **write)
    pools = [(table, verdicts(table)) for tables in by_task.values() for table in tables]
    text = "\n".join([*pool_lines(pools), "", CHILDREN, *child_lines(pools)])
    (arguments.folder / "README.md").write_text(card_head(by_task, arguments.folder) + text + "\n")
    print(text)


def renamed(table: pa.Table) -> pa.Table:
    """Return a pool whose ids begin with its method, as those of two pools of a task are otherwise equal."""
    rows = table.to_pylist()
    for row in rows:
        row["id"] = f"{row['method']}-{row['id']}"
        row["parents"] = [id if id == TEMPLATE_ID else f"{row['method']}-{id}" for id in row["parents"] or []]
    return pa.Table.from_pylist(rows, schema=POOL_SCHEMA)


def card_head(by_task: dict[str, list[pa.Table]], folder: Path) -> str:
    """Return what the card says of the one model that wrote all pools."""
    (digest,) = {model for tables in by_task.values() for table in tables for model in table["model"].to_pylist()}
    name, weights = next((name, weights) for name, weights in KNOWN.items() if weights.digest == digest)
    return CARD.format(name=name, folder=folder, split=SPLIT, **weights._asdict())


def verdicts(table: pa.Table) -> list[Verdict]:
    """Return the referee's verdicts on a pool's completions, in order."""
    with opened(table) as referee:
        return [one.verdict for one in judge(referee, table["completion"].to_pylist())]


def opened(table: pa.Table) -> Referee:
    """Return the referee of a pool's task."""
    return Referee(Task(table["task"][0].as_py()), SPLIT, max_slowdown=MAX_SLOWDOWN, memory_mib=MEMORY_MIB)


def pool_lines(pools: list[tuple[pa.Table, list[Verdict]]]) -> Iterator[str]:
    """Yield a table that says what the referee makes of each pool."""
    yield from head(POOL_HEAD)
    for table, found in pools:
        first = table.slice(0, 1).to_pylist()[0]
        with opened(table) as referee:
            template = template_score(referee)
        scores = [verdict.score for verdict in found if verdict.score is not None]
        n_copies = sum(equals_template(score, template) for score in scores)
        n_better = sum(score > template and not equals_template(score, template) for score in scores)
        n_behaviours = len({verdict.behaviour for verdict in found} - {None})
        cells = [*(first[name] for name in GROUP), len(table), share(len(scores), len(table)), n_behaviours]
        yield "| " + " | ".join(map(str, [*cells, share(n_copies, len(scores)), n_better])) + " |"


def child_lines(pools: list[tuple[pa.Table, list[Verdict]]]) -> Iterator[str]:
    """Yield a table of what the prompts of searches bring, by operation."""
    yield from head(CHILD_HEAD)
    for table, found in pools:
        by_id = dict(zip(table["id"].to_pylist(), found, strict=True))
        by_operation: dict[str, list[tuple[Verdict, list[Verdict]]]] = {}
        for row in table.select(["id", "parents", "operation"]).to_pylist():
            parents = [by_id[id] for id in row["parents"] if id in by_id]
            if parents:
                by_operation.setdefault(row["operation"], []).append((by_id[row["id"]], parents))
        for operation, families in by_operation.items():
            valid = [(child, parents) for child, parents in families if child.score is not None]
            n_new = sum(child.behaviour not in {one.behaviour for one in parents} for child, parents in valid)
            n_better = sum(is_better(child, parents) for child, parents in valid)
            shares = [share(n, len(families)) for n in (len(valid), n_new, n_better)]
            first = [table["task"][0].as_py(), table["method"][0].as_py(), operation]
            yield "| " + " | ".join([*first, str(len(families)), *shares]) + " |"


def is_better(child: Verdict, parents: list[Verdict]) -> bool:
    """Return whether a child has a higher score than each of its parents, which all have one."""
    best = max(one.score for one in parents if one.score is not None)
    return child.score is not None and child.score > best


def head(names: tuple[str, ...]) -> list[str]:
    """Return the first two lines of a table."""
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def share(n: int, of: int) -> str:
    """Return a share as a text; a dash of nothing."""
    return f"{n / of:.3f}" if of else "-"


if __name__ == "__main__":
    main()
