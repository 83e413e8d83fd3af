"""Draws of (chosen, rejected) programs from the scored pool: a strategy is one SQL file under sql/."""

from pathlib import Path
from typing import Annotated, Literal

import duckdb
import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune.journal import read, write, write_json
from dartune.mistake import Mistake, nearest

SQL = Path(__file__).parent / "sql"


def write_sample(
    task: str,
    scored: Path,
    output: Path,
    metrics: Path,
    *,
    strategy: str,
    n_pairs: PositiveInt,
    n_subsets: Annotated[int, Field(ge=3)],
    gap: PositiveInt,
    tau: PositiveFloat,
    one_per: Literal["score_signature", "text"],
    seed: NonNegativeInt,
) -> None:
    """Write the drawn pairs: pair, chosen, rejected (ids), their subsets (1 is the best) and scores.

    strategy: name of the SQL file. n_subsets: M of the paper, gap and tau as in its section 3.2. one_per: of the
    programs that share a score signature (or only their text), one takes part.
    """
    read(scored)
    rule = {
        "n_pairs": n_pairs,
        "n_subsets": n_subsets,
        "gap": gap,
        "tau": tau,
        "one_per": one_per,
        "seed": seed,
    }
    check_size(task, scored, n_subsets, one_per)
    pairs = draw(strategy, scored, **rule)
    check_order(pairs)
    write(pairs, output)
    write_json(metrics, summary(pairs, n_pairs))


def draw(strategy: str, scored: Path, **rule: object) -> pa.Table:
    """The strategy's pairs. DuckDB refuses a parameter that the SQL file does not know."""
    file = check_strategy(strategy)
    with duckdb.connect() as connection:
        return connection.sql(file.read_text(), params={"scored": str(scored), **rule}).to_arrow_table()


def check_strategy(strategy: str) -> Path:
    """The strategy's file, or a Mistake with the nearest known name."""
    file = SQL / f"{strategy}.sql"
    if not file.exists():
        known = sorted(path.stem for path in SQL.glob("*.sql"))
        raise Mistake(f"sample.strategy: there is no strategy {strategy!r}{nearest(strategy, known)}")
    return file


def check_size(task: str, scored: Path, n_subsets: int, one_per: str) -> None:
    """Refuse a pool that cannot fill M subsets with two programs each."""
    column = {"score_signature": "costs::varchar", "text": "program"}[one_per]
    with duckdb.connect() as connection:
        query = f"select count(*), count(*) filter (status = 'ok'), count(distinct {column}) filter (status = 'ok')"
        n, n_ok, n_distinct = connection.execute(f"{query} from read_parquet($1)", [str(scored)]).fetchall()[0]
    if n_ok == 0:
        raise Mistake(f"sample: none of {n} programs of {task} is ok; metrics/score/{task}.json counts the reasons")
    if n_distinct < 2 * n_subsets:
        raise Mistake(
            f"sample: {n_distinct} different programs of {task} are ok; at least {2 * n_subsets} are needed for "
            f"M = {n_subsets} subsets. Raise pool.n_programs or lower sample.n_subsets"
        )


def check_order(pairs: pa.Table) -> None:
    """Promise 6: chosen is better than rejected in every pair, whatever the strategy's SQL says."""
    if not len(pairs):
        raise Mistake("sample: the strategy drew no pair: do all programs have the same score?")
    wrong = [row["pair"] for row in pairs.to_pylist() if not row["chosen_score"] > row["rejected_score"]]
    if wrong:
        raise Mistake(f"sample: chosen is not better than rejected in pair {wrong[0]}: the strategy is wrong")


def summary(pairs: pa.Table, n_asked: int) -> dict[str, float | int]:
    """How many pairs the pool had for the asking, and how far apart they are."""
    rows = pairs.to_pylist()
    gaps = [row["rejected_subset"] - row["chosen_subset"] for row in rows]
    scores = [row["chosen_score"] - row["rejected_score"] for row in rows]
    return {
        "n_asked": n_asked,
        "n_pairs": len(rows),
        "mean_gap_subsets": sum(gaps) / len(rows),
        "mean_gap_score": sum(scores) / len(rows),
        "share_from_best_subset": sum(row["chosen_subset"] == 1 for row in rows) / len(rows),
    }
