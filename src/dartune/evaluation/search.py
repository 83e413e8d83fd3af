"""Stage search: base and tuned model inside the same searches, at equal numbers of evaluations and at equal seconds.

Instances that no training saw guide each search; its best programs are then judged on held-out instances, which guide
nothing.
"""

import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune.evaluation.backends import open_backend
from dartune.evaluation.statistics import MODELS, t_interval
from dartune.files import atomic, batches, parquet
from dartune.models.backend import Decoding
from dartune.models.host import run_settings
from dartune.pool.search_loop import SearchSpec, run_searches
from dartune.referee.referee import Referee
from dartune.tasks.task import Task

Run = tuple[str, str, int]  # method, model, seed
Runs = dict[Run, list[dict[str, Any]]]  # the rows of each, in the order written
N_TOP = 10
SEARCH_SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("model", pa.string()),
        ("seed", pa.int64()),
        ("evaluation", pa.int64()),
        ("operation", pa.string()),
        ("parents", pa.list_(pa.string())),
        ("program", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("n_prompt_tokens", pa.int64()),
        ("n_tokens", pa.int64()),
        ("guide_quality", pa.float64()),  # on the guiding instances
        ("best_quality", pa.float64()),  # on the held-out ones, of the program that guided best so far
        ("rank", pa.int64()),  # by the guiding instances, 1 to N_TOP, of different costs; null for the rest
        ("quality", pa.float64()),  # on the held-out instances, of programs with a rank
    ]
)


def write_search(
    task: str,
    base: Path,
    tuned: Path,
    options: dict[str, dict[str, Any]],
    output: Path,
    metrics: Path,
    *,
    methods: Annotated[list[str], Field(min_length=1)],
    n_evaluations: PositiveInt,
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)],
    temperature: PositiveFloat,
    top_p: Annotated[float, Field(gt=0, le=1)],
    max_new_tokens: PositiveInt,
    guide: str,
    held_out: str,
    max_slowdown: PositiveFloat,
    memory_mib: PositiveInt,
    server: str | None,
) -> dict[str, Any]:
    """Write one row per evaluation as SEARCH_SCHEMA, and the metrics by method; return those at equal seconds.

    options: by method. methods: files of pool/methods/. n_evaluations: completions per search; each seed is a search.
    guide, held_out: splits; the best programs on `guide` are judged on `held_out`. max_slowdown, memory_mib: see
    Referee. server: see open_backend.
    """
    decoding = Decoding(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    limits: dict[str, Any] = {"max_slowdown": max_slowdown, "memory_mib": memory_mib}
    this, work = Task(task, run_settings(base)["prompt"]), batches.WORK / "search" / task / "finished"
    written: Runs = {}
    with Referee(this, guide, **limits) as referee:
        for model, folder in zip(MODELS, (None, tuned), strict=True):
            backend = open_backend(model, this, base, folder, server)
            for method in methods:
                spec = SearchSpec(this, method, options[method], n_evaluations, seeds, decoding, None)
                table = run_searches(f"search {task} {method} {model}", spec, backend, referee, work)
                written |= {(method, model, seed): rows for seed, rows in by_seed(table, seeds).items()}
    with Referee(this, held_out, **limits) as referee:
        runs = judged_runs(written, referee, guide, held_out)
    parquet.write(pa.Table.from_pylist([row for rows in runs.values() for row in rows], schema=SEARCH_SCHEMA), output)
    atomic.write_json(metrics, {method: compare(runs, method, seeds) for method in methods})
    shutil.rmtree(batches.WORK / "search" / task)
    return {method: at_equal_seconds(written, runs, method, seeds) for method in methods}


def by_seed(table: pa.Table, seeds: list[int]) -> dict[int, list[dict[str, Any]]]:
    """Return the rows of each seed's search, in the order written."""
    rows = table.to_pylist()
    return {seed: [row for row in rows if row["seed"] == seed] for seed in seeds}


def judged_runs(written: Runs, referee: Referee, guide: str, held_out: str) -> Runs:
    """Return the rows of each search with qualities on both splits.

    written: rows of `run_searches`, judged on the guiding instances. referee: judges on the held-out ones, and is asked
    only about programs that were the best so far at some point, or have a rank.
    """
    ranks = {run: ranking(rows) for run, rows in written.items()}
    best = {run: best_so_far(rows) for run, rows in written.items()}
    wanted = {run: {*ranks[run], *(i for i in best[run] if i is not None)} for run in written}
    programs = sorted({written[run][i]["program"] for run, numbers in wanted.items() for i in numbers})
    verdicts = zip(programs, referee.judge(programs), strict=True)
    qualities = {program: referee.task.quality(verdict.score, held_out) for program, verdict in verdicts}
    return {
        run: [
            {
                **row,
                **dict(zip(("method", "model", "seed"), run, strict=True)),
                "evaluation": i + 1,
                "guide_quality": referee.task.quality(row["score"], guide),
                "best_quality": 0.0 if best_i is None else qualities[rows[best_i]["program"]],
                "rank": ranks[run].get(i),
                "quality": qualities[row["program"]] if i in ranks[run] else None,
            }
            for i, (row, best_i) in enumerate(zip(rows, best[run], strict=True))
        ]
        for run, rows in written.items()
    }


def best_so_far(rows: list[dict[str, Any]]) -> list[int | None]:
    """Return the index of the best row after each evaluation: the first of equals, None before any valid program."""
    best: int | None = None
    numbers: list[int | None] = []
    for i, row in enumerate(rows):
        if row["score"] is not None and (best is None or row["score"] > rows[best]["score"]):
            best = i
        numbers.append(best)
    return numbers


def ranking(rows: list[dict[str, Any]]) -> dict[int, int]:
    """Return {row index: rank from 1} of the N_TOP best. Of programs with the same costs only the first counts."""
    first: dict[tuple[float, ...], int] = {}
    for i, row in enumerate(rows):
        if row["score"] is not None:
            first.setdefault(tuple(row["costs"]), i)
    order = sorted(first.values(), key=lambda i: (-rows[i]["score"], i))
    return {i: rank for rank, i in enumerate(order[:N_TOP], 1)}


def top_qualities(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the held-out quality of one search's best program, and the mean of its N_TOP best (or all, if fewer)."""
    qualities = {row["rank"]: row["quality"] for row in rows if row["rank"]}
    return {"top_1": qualities.get(1, 0.0), "top_10": float(np.mean(list(qualities.values()) or [0.0]))}


def compare(runs: Runs, method: str, seeds: list[int]) -> dict[str, Any]:
    """Return each model's metrics, as means over seeds, and their differences paired by seed, with 95 % t intervals."""
    summaries = {model: [summary(runs[method, model, seed]) for seed in seeds] for model in MODELS}
    means = {
        model: {name: round(float(np.mean([value[name] for value in values])), 6) for name in values[0]}
        for model, values in summaries.items()
    }
    pairs = list(zip(*summaries.values(), strict=True))
    return {
        "n_evaluations": len(runs[method, "base", seeds[0]]),
        "n_seeds": len(seeds),
        **means,
        "difference": {
            name: t_interval([tuned[name] - base[name] for base, tuned in pairs]) for name in ("top_1", "top_10")
        },
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return one search's metrics: its top qualities, the shares of valid and of distinct programs, and tokens."""
    programs = [row["program"] for row in rows]
    return {
        **top_qualities(rows),
        "validity": sum(row["status"] == "ok" for row in rows) / len(rows),
        "distinct_programs": len(set(programs) - {None}) / len(rows),
        "n_prompt_tokens": sum(row["n_prompt_tokens"] for row in rows),
        "n_tokens": sum(row["n_tokens"] for row in rows),
    }


def at_equal_seconds(written: Runs, runs: Runs, method: str, seeds: list[int]) -> dict[str, Any]:
    """Return each model's best after the seconds of writing and judging that the faster model took in total.

    {"seconds", "base", "tuned": {"evaluations", "top_1"}, "difference"}: means over seeds. Seconds differ from run to
    run, so these numbers do too. written: rows with their "seconds". runs: the same rows, judged.
    """
    races = [in_equal_time(written, runs, (method, "base", seed), (method, "tuned", seed)) for seed in seeds]
    reached = {model: [values[i] for _, values in races] for i, model in enumerate(MODELS)}
    means = {
        model: dict(zip(("evaluations", "top_1"), map(float, np.mean(values, axis=0).round(6)), strict=True))
        for model, values in reached.items()
    }
    differences = [tuned - base for (_, base), (_, tuned) in zip(*reached.values(), strict=True)]
    seconds = round(float(np.mean([limit for limit, _ in races])), 1)
    return {"seconds": seconds, **means, "difference": t_interval(differences)}


def in_equal_time(written: Runs, runs: Runs, *pair: Run) -> tuple[float, list[tuple[int, float]]]:
    """Return the seconds of the faster of two searches, and what both had by then: (evaluations, best quality)."""
    clocks = [np.cumsum([row["seconds"] for row in written[run]]) for run in pair]
    limit = float(min(clock[-1] for clock in clocks))
    counts = [int(np.searchsorted(clock, limit * (1 + 1e-9), side="right")) for clock in clocks]
    best = [runs[run][n - 1]["best_quality"] if n else 0.0 for run, n in zip(pair, counts, strict=True)]
    return limit, list(zip(counts, best, strict=True))
