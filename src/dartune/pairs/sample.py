"""Stage sample: a strategy, one SQL file of sql/, draws (chosen, rejected) programs from the scored pool."""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import duckdb
import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune.errors import UserError
from dartune.files.atomic import write_json
from dartune.files.batches import WORK
from dartune.files.parquet import checked_path, write
from dartune.files.templates import render
from dartune.pairs.datasheet import NOISE, pair_metrics, warnings_of
from dartune.pairs.strategies import check_strategy, header, involved, starts, statement

FILES = ("macros.sql", "finished.sql", "datasheet.md.jinja")
MIN_SUBSETS = {"dar_authors_code": 4}  # the others need three, and one more than their gap
MACROS, FINISHED, SHEET = (Path(__file__).parent / name for name in FILES)


def write_sample(
    task: str,
    scored: Path,
    output: Path,
    metrics: Path,
    sheet: Path,
    *,
    strategy: str | dict[str, PositiveFloat],
    n_pairs: PositiveInt,
    seed: NonNegativeInt,
    memory_mib: Annotated[int, Field(ge=100)],
    max_length_bias: Annotated[float, Field(ge=0, le=0.5)],
    min_behaviours: NonNegativeInt,
    max_below_noise: Annotated[float, Field(ge=0, le=1)],
    max_template_copies: NonNegativeInt | None,
    options: dict[str, dict[str, Any]],
) -> None:
    """Write the drawn pairs, their metrics as JSON, and the data sheet as Markdown.

    Columns: pair (1 ..), strategy, chosen, rejected (ids), their subsets (1 is the best; null where the strategy has
    none), scores and ranks (share of the valid programs that are better; null with the score of a failure), t (paired,
    over the instances; null for one), is_flipped (the control `shuffled` trains on the opposite).

    strategy: name of an SQL file, or {name: share of the pairs}. memory_mib: DuckDB's; what needs more goes to disk.
    max_length_bias, min_behaviours, max_below_noise: beyond these the data sheet warns. max_template_copies: programs
    with the template's score that may take part; null for all. options: parameters of each strategy, which its file
    explains; n_subsets is lowered for a pool with few different scores, and the data sheet says so. Raises UserError
    where the options, the pool or the drawn pairs are wrong.
    """
    shares = check_strategy(strategy, options)
    with connect(scored, memory_mib, max_template_copies) as connection:
        check_pool(task, connection)
        options, lowered = fitting(task, connection, shares, options)
        pairs = draw(connection, shares, options, n_pairs, seed)
        check_order(pairs)
        measured = pair_metrics(connection, pairs, n_pairs)
    limits = {"length_bias": max_length_bias, "behaviours": min_behaviours, "below_noise": max_below_noise}
    warnings = lowered + warnings_of(measured, limits)
    write(pairs, output)
    write_json(metrics, measured | {"warnings": warnings})
    for line in (f"{len(pairs)} of {n_pairs} pairs by {', '.join(shares)}", *(f"warning: {text}" for text in warnings)):
        print(f"sample {task}: {line}", file=sys.stderr)
    used = {name: options.get(name, {}) for name in involved(shares)}
    text = render(SHEET, task=task, options=used, seed=seed, measured=measured, warnings=warnings, noise=NOISE)
    sheet.write_text(text, encoding="utf-8")


def connect(scored: Path, memory_mib: int, max_template_copies: int | None = None) -> duckdb.DuckDBPyConnection:
    """Return a connection with the pool as `scored`, the macros, and an empty table `used` for rows that are taken."""
    spill = WORK / "duckdb" / scored.stem  # one folder a task: two processes would overwrite each other's files
    spill.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "memory_limit": f"{memory_mib}MiB",
        "temp_directory": str(spill),
        "preserve_insertion_order": False,  # every strategy orders what depends on an order
        # Joins run in the order in which they are written: the optimiser cannot estimate the size of a recursion or a
        # draw, and has been seen to compare all programs with all.
        "disabled_optimizers": "join_order",
    }
    connection = duckdb.connect(config=config)
    connection.execute(f"set enable_progress_bar = {sys.stdout.isatty()}")
    connection.read_parquet(checked_path(scored), file_row_number=True).create_view("scored")
    connection.execute("create temp table used (row bigint)")
    copies = 2**62 if max_template_copies is None else max_template_copies
    connection.execute(f"set variable max_template_copies = {copies}")
    connection.execute(MACROS.read_text())
    return connection


def draw(
    connection: duckdb.DuckDBPyConnection,
    shares: dict[str, float],
    options: dict[str, dict[str, Any]],
    n_pairs: int,
    seed: int,
) -> pa.Table:
    """Return the pairs of all parts of the mixture, numbered from 1. No part uses a program of an earlier one."""
    connection.execute(
        "create or replace temp table drawn (pair integer, strategy varchar, chosen bigint, rejected bigint, "
        "chosen_subset integer, rejected_subset integer, is_flipped boolean default false)"
    )
    edges = [round(n_pairs * sum(list(shares.values())[:i])) for i in range(len(shares) + 1)]
    for name, (first, last) in zip(shares, pairwise(edges), strict=True):
        connection.register("part", run(connection, name, options, last - first, seed))
        connection.execute(
            "insert into drawn by name "
            "select * replace (pair + (select count(*) from drawn) as pair), $name as strategy from part",
            {"name": name},
        )
        connection.execute("insert into used select chosen from part union select rejected from part")
    return connection.sql(FINISHED.read_text()).to_arrow_table()


def run(
    connection: duckdb.DuckDBPyConnection, name: str, options: dict[str, dict[str, Any]], n_pairs: int, seed: int
) -> pa.Table:
    """Return what one strategy draws, from the tables of the strategies that it starts from."""
    for start in starts(name):
        connection.register(start, run(connection, start, options, n_pairs, seed))
    parameters = {"n_pairs": n_pairs, "seed": seed, **options.get(name, {})}
    try:
        return connection.sql(statement(name), params=parameters).to_arrow_table()
    except duckdb.Error as error:
        raise UserError(f"sample: strategy {name}: {str(error).splitlines()[0]}") from error


def check_pool(task: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Raise UserError on a pool without valid programs, or with a score that is not finite."""
    n, n_ok, n_nan = connection.execute(
        "select count(*), count(*) filter (status = 'ok'), count(*) filter (isnan(score) or isinf(score)) from scored"
    ).fetchall()[0]
    if n_ok == 0:
        raise UserError(f"sample: none of {n} programs of {task} is ok; metrics/score/{task}.json counts the reasons")
    if n_nan:
        raise UserError(f"sample: {n_nan} scores of {task} are not finite numbers; run stage score again")


def fitting(
    task: str, connection: duckdb.DuckDBPyConnection, shares: dict[str, float], options: dict[str, dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the options with subsets as many as the pool fills, and a line for each strategy that got fewer.

    A subset holds two programs, and programs of equal score share one. Raises UserError where not even the fewest
    subsets can be filled that leave the gap between chosen and rejected programs.
    """
    fitted, lines = dict(options), []
    for name in involved(shares):
        if (asked := options.get(name, {}).get("n_subsets")) is None:
            continue
        one_per = {"one_per": options[name].get("one_per", *header(name, "one_per"))}
        query = "select count(*), count(distinct score) from candidates($one_per, 0)"
        n, n_scores = connection.execute(query, one_per).fetchall()[0]
        n_subsets, fewest = min(asked, n // 2, n_scores), max(MIN_SUBSETS.get(name, 3), options[name].get("gap", 0) + 1)
        if n_subsets < fewest:
            raise UserError(
                f"sample: {n} distinct programs of {task} with {n_scores} scores are ok; {2 * fewest} with {fewest} are"
                f" the least for {name}. Raise pool.n_programs, let a larger model write (pool.source), or take another"
                " one_per"
            )
        if n_subsets < asked:
            fitted[name] = options[name] | {"n_subsets": n_subsets}
            lines.append(f"{n_subsets} subsets instead of {asked}: {n} distinct programs with {n_scores} scores")
    return fitted, lines


def check_order(pairs: pa.Table) -> None:
    """Raise UserError where a chosen program is not better than its rejected one, or where there is no pair at all."""
    if not len(pairs):
        raise UserError("sample: the strategy drew no pair: too few distinct scores, or its options rule out all")
    for row in pairs.select(["pair", "chosen_score", "rejected_score"]).to_pylist():
        better, worse = row["chosen_score"], row["rejected_score"]
        if better is None or (worse is not None and not better > worse):
            raise UserError(f"sample: chosen is not better than rejected in pair {row['pair']}: the strategy is wrong")
