"""Makes a recording of pools, which `pool.source` can name, so that others go on from it without the model that wrote.

    python benchmarks/recording.py FOLDER POOL.parquet [POOL.parquet ...]

FOLDER/<task>.parquet gets the rows of all the pools of a task, by method in their order, and FOLDER/README.md says
whose they are and what is in them. It is written anew each time: to add to it, name FOLDER/*.parquet first. Prints the
card's tables.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from judged import judged

from dartune.evaluation.search import best_so_far
from dartune.files import parquet
from dartune.models.fetch import KNOWN
from dartune.pool.ask_tell import INDEPENDENT
from dartune.pool.pool import POOL_SCHEMA, SPLIT
from dartune.pool.search_loop import TEMPLATE_ID
from dartune.referee.referee import MAX_SLOWDOWN, MEMORY_MIB, Referee
from dartune.tasks.task import Task

Row = dict[str, Any]
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
CHILDREN = "What the prompts of searches brought, as shares of all children that had parents of the pool:"
SEARCH_HEAD = ("task", "method", "completions", "valid", "found as number", "its quality")
HELD_OUT = "test"
SEARCHES = f"The best program that each search found by the split {SPLIT}, judged on the split {HELD_OUT}:"
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
    for (task, _), tables in by_method(arguments.pools).items():
        by_task.setdefault(task, []).append(pa.concat_tables(tables))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for task, tables in by_task.items():
        write = {"compression": "zstd", "compression_level": 19}
        pq.write_table(pa.concat_tables(tables), arguments.folder / f"{task}.parquet", **write)
    pools = [(table.to_pylist(), *judged(task, SPLIT, table)) for task, tables in by_task.items() for table in tables]
    parts = [*pool_lines(pools)], [*child_lines(pools)], [*search_lines(pools)]
    text = "\n".join([*parts[0], *titled(CHILDREN, parts[1]), *titled(SEARCHES, parts[2])])
    (arguments.folder / "README.md").write_text(card_head(by_task, arguments.folder) + text + "\n")
    print(text)


def by_method(files: list[Path]) -> dict[tuple[str, str], list[pa.Table]]:
    """Return the pools by task and method."""
    found: dict[tuple[str, str], list[pa.Table]] = {}
    for table in map(parquet.read, files):
        for method in table["method"].unique().to_pylist():
            of_method = renamed(table.filter(pc.equal(table["method"], method)), method)
            found.setdefault((table["task"][0].as_py(), method), []).append(of_method)
    return found


def renamed(table: pa.Table, method: str) -> pa.Table:
    """Return a pool whose ids begin with its method, as those of two pools of a task are otherwise equal."""
    rows = table.to_pylist()
    for row in rows:
        row["id"] = named(row["id"], method)
        row["parents"] = [id if id == TEMPLATE_ID else named(id, method) for id in row["parents"] or []]
    return pa.Table.from_pylist(rows, schema=POOL_SCHEMA)


def named(id: str, method: str) -> str:
    """Return an id that begins with the method, once."""
    return id if id.startswith(f"{method}-") else f"{method}-{id}"


def card_head(by_task: dict[str, list[pa.Table]], folder: Path) -> str:
    """Return what the card says of the one model that wrote all pools."""
    (digest,) = {model for tables in by_task.values() for table in tables for model in table["model"].to_pylist()}
    name, weights = next((name, weights) for name, weights in KNOWN.items() if weights.digest == digest)
    return CARD.format(name=name, folder=folder, split=SPLIT, **weights._asdict())


def pool_lines(pools: list[tuple[list[Row], list[Row], Row]]) -> Iterator[str]:
    """Yield a table that says what the referee makes of each pool: its rows, its verdicts, their summary."""
    yield from head(POOL_HEAD)
    for rows, _, summary in pools:
        validity, copies = summary["validity"], summary["equal_to_template"]
        numbers = [round(summary[name] * len(rows)) for name in ("distinct_behaviours", "better_than_template")]
        shares = [f"{validity:.3f}", f"{copies / validity:.3f}" if validity else "-"]
        cells = [*(rows[0][name] for name in GROUP), len(rows), shares[0], numbers[0], shares[1], numbers[1]]
        yield "| " + " | ".join(map(str, cells)) + " |"


def child_lines(pools: list[tuple[list[Row], list[Row], Row]]) -> Iterator[str]:
    """Yield a table of what the prompts of searches bring, by operation, in pools as of pool_lines."""
    yield from head(CHILD_HEAD)
    for rows, verdicts, _ in pools:
        by_id = {row["id"]: verdict for row, verdict in zip(rows, verdicts, strict=True)}
        families: dict[str, list[tuple[Row, list[Row]]]] = {}
        for row in rows:
            if parents := [by_id[id] for id in row["parents"] if id in by_id]:
                families.setdefault(row["operation"], []).append((by_id[row["id"]], parents))
        for operation, pairs in families.items():
            shares = [f"{share:.3f}" for share in child_shares(pairs)]
            cells = [rows[0]["task"], rows[0]["method"], operation, str(len(pairs)), *shares]
            yield "| " + " | ".join(cells) + " |"


def child_shares(families: list[tuple[Row, list[Row]]]) -> list[float]:
    """Return the shares of children that are valid, that behave like no parent, and that are better than every one.

    families: the verdicts of a child and of its parents, which are valid.
    """
    valid = [(child, parents) for child, parents in families if child["score"] is not None]
    n_new = sum(child["behaviour"] not in {one["behaviour"] for one in parents} for child, parents in valid)
    n_better = sum(child["score"] > max(one["score"] for one in parents) for child, parents in valid)
    return [round(n / len(families), 3) for n in (len(valid), n_new, n_better)]


def search_lines(pools: list[tuple[list[Row], list[Row], Row]]) -> Iterator[str]:
    """Yield a table of the searches in pools as of pool_lines, one a seed."""
    yield from head(SEARCH_HEAD)
    for rows, verdicts, _ in pools:
        task, method = rows[0]["task"], rows[0]["method"]
        if method != INDEPENDENT:
            searches: dict[int, list[Row]] = {}
            for row, verdict in zip(rows, verdicts, strict=True):
                searches.setdefault(row["seed"], []).append(verdict)
            with Referee(Task(task), HELD_OUT, max_slowdown=MAX_SLOWDOWN, memory_mib=MEMORY_MIB) as referee:
                for search in searches.values():
                    yield "| " + " | ".join([task, method, *outcome(search, referee)]) + " |"


def outcome(search: list[Row], referee: Referee) -> Iterator[str]:
    """Yield a search's columns. search: its verdicts on SPLIT. referee: judges its best program on HELD_OUT."""
    yield from (str(len(search)), f"{sum(verdict['score'] is not None for verdict in search) / len(search):.3f}")
    best = best_so_far(search)[-1]
    if best is None:
        yield from ("", "none")
    else:
        (verdict,) = referee.judge([search[best]["program"]])
        yield from (str(best + 1), f"{referee.task.quality(verdict.score, HELD_OUT):.3f}")


def titled(title: str, table: list[str]) -> list[str]:
    """Return a table with a title, or nothing where it has a head alone."""
    return ["", title, "", *table] if len(table) > 2 else []


def head(names: tuple[str, ...]) -> list[str]:
    """Return the first two lines of a table."""
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


if __name__ == "__main__":
    main()
