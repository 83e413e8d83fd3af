"""A contest: base and tuned model inside the same searches, at equal numbers of evaluations and at equal seconds.

A search is guided by instances that the training never saw, and what it found is judged on others that guided nothing.
"""

import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune.evaluation.statistics import t_interval
from dartune.files import atomic, batches, parquet
from dartune.models.backend import Decoding
from dartune.pool.search_loop import run_searches
from dartune.referee.referee import Referee
from dartune.tasks.task import Task

Run = tuple[str, str, int]  # method, model, seed
Runs = dict[Run, list[dict[str, Any]]]  # the rows of each, in the order written
N_TOP = 10
MODELS = ("base", "tuned")
ROW = pa.schema(
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
        ("guide_quality", pa.float64()),  # on the instances that guide
        ("best_quality", pa.float64()),  # on the held-out ones, of the program that was the best by guide so far
        ("rank", pa.int64()),  # by guide, 1 to N_TOP, of different costs; null for the rest
        ("quality", pa.float64()),  # on the held-out ones, of those with a rank
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
) -> dict[str, Any]:
    """Write ROW for each evaluation of each search, and the figures of top 1 and top 10; return those at equal seconds.

    options: by method. methods: files of search/. n_evaluations, seeds: of each search. guide, held_out: splits; the
    best by guide are judged on held_out. max_slowdown, memory_mib: see Referee.
    """
    from dartune.models.transformers_backend import TransformersBackend

    decoding = Decoding(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    limits: dict[str, Any] = {"max_slowdown": max_slowdown, "memory_mib": memory_mib}
    this = Task(task)
    found: Runs = {}
    with Referee(this, guide, **limits) as referee:
        for model, folder in zip(MODELS, (None, tuned), strict=True):
            backend = TransformersBackend(base, folder)
            for method in methods:
                table = run_searches(
                    f"search {task} {method} {model}",
                    this,
                    method,
                    options[method],
                    backend,
                    referee,
                    n_evaluations=n_evaluations,
                    size=None,
                    seeds=seeds,
                    decoding=decoding,
                    work=batches.WORK / "search" / task / "found",
                )
                found |= {(method, model, seed): own for seed, own in by_seed(table, seeds).items()}
    with Referee(this, held_out, **limits) as referee:
        runs = outcomes(found, referee, guide, held_out)
    parquet.write(pa.Table.from_pylist([row for run in runs.values() for row in run], schema=ROW), output)
    atomic.write_json(metrics, {method: compare(runs, method, seeds) for method in methods})
    equal = {method: at_equal_seconds(found, runs, method, seeds) for method in methods}
    shutil.rmtree(batches.WORK / "search" / task)
    return equal


def by_seed(table: pa.Table, seeds: list[int]) -> dict[int, list[dict[str, Any]]]:
    rows = table.to_pylist()
    return {seed: [row for row in rows if row["seed"] == seed] for seed in seeds}


def outcomes(found: Runs, referee: Referee, guide: str, held_out: str) -> Runs:
    """The rows of each search with qualities on both splits: what was best by guide is judged on the held-out one."""
    ranks = {run: ranked(rows) for run, rows in found.items()}
    leaders = {run: leading(rows) for run, rows in found.items()}
    wanted = {run: {*ranks[run], *(i for i in leaders[run] if i is not None)} for run in found}
    programs = sorted({found[run][i]["program"] for run, numbers in wanted.items() for i in numbers})
    verdicts = dict(zip(programs, referee.judge(programs), strict=True))

    def held_out_quality(program: str) -> float:
        score = verdicts[program].score
        return 0.0 if score is None else referee.task.quality(score, held_out)

    def row(run: Run, i: int, written: dict[str, Any]) -> dict[str, Any]:
        leader, rank = leaders[run][i], ranks[run].get(i)
        guided = 0.0 if written["score"] is None else referee.task.quality(written["score"], guide)
        return {
            **written,
            **dict(zip(("method", "model", "seed"), run, strict=True)),
            "evaluation": i + 1,
            "guide_quality": guided,
            "best_quality": 0.0 if leader is None else held_out_quality(found[run][leader]["program"]),
            "rank": rank,
            "quality": held_out_quality(written["program"]) if rank else None,
        }

    return {run: [row(run, i, written) for i, written in enumerate(rows)] for run, rows in found.items()}


def leading(rows: list[dict[str, Any]]) -> list[int | None]:
    """After each evaluation, the number of the best by guide so far: of equals the first; None before a valid one."""
    leader: int | None = None
    leaders = []
    for i, row in enumerate(rows):
        if row["score"] is not None and (leader is None or row["score"] > rows[leader]["score"]):
            leader = i
        leaders.append(leader)
    return leaders


def ranked(rows: list[dict[str, Any]]) -> dict[int, int]:
    """The ranks, from 1, of the N_TOP best by guide, by number; of programs of the same costs the first counts."""
    first: dict[tuple[float, ...], int] = {}
    for i, row in enumerate(rows):
        if row["score"] is not None:
            first.setdefault(tuple(row["costs"]), i)
    order = sorted(first.values(), key=lambda i: (-rows[i]["score"], i))
    return {i: rank for rank, i in enumerate(order[:N_TOP], 1)}


def tops(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of one search: the held-out quality of its best by guide, and the mean of its N_TOP best or of all, if fewer."""
    qualities = {row["rank"]: row["quality"] for row in rows if row["rank"]}
    return {"top_1": qualities.get(1, 0.0), "top_10": float(np.mean(list(qualities.values()) or [0.0]))}


def compare(runs: Runs, method: str, seeds: list[int]) -> dict[str, Any]:
    """Means over seeds of both models' figures, and the differences, seed by seed, with their 95 % t intervals."""
    figures = {model: [summary(runs[method, model, seed]) for seed in seeds] for model in MODELS}
    means = {
        model: {name: round(float(np.mean([each[name] for each in found])), 6) for name in found[0]}
        for model, found in figures.items()
    }
    differences = {
        name: t_interval([t[name] - b[name] for b, t in zip(*figures.values(), strict=True)])
        for name in ("top_1", "top_10")
    }
    return {
        "n_evaluations": len(runs[method, "base", seeds[0]]),
        "n_seeds": len(seeds),
        **means,
        "difference": differences,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """One search's figures: tops, the share of valid programs and of new ones, and tokens."""
    programs = [row["program"] for row in rows]
    return {
        **tops(rows),
        "validity": sum(row["status"] == "ok" for row in rows) / len(rows),
        "distinct_programs": len(set(programs) - {None}) / len(rows),
        "n_prompt_tokens": sum(row["n_prompt_tokens"] for row in rows),
        "n_tokens": sum(row["n_tokens"] for row in rows),
    }


def at_equal_seconds(found: Runs, runs: Runs, method: str, seeds: list[int]) -> dict[str, Any]:
    """Both models' best after as many seconds of writing and judging as the faster of the two took, seed by seed.

    {"seconds", "base", "tuned": {"evaluations", "top_1"}, "difference"}: means over seeds. Seconds differ from run to
    run, and so does this.
    """
    each = [in_equal_time(found, runs, (method, "base", seed), (method, "tuned", seed)) for seed in seeds]
    reached = {model: [both[i] for _, both in each] for i, model in enumerate(MODELS)}
    means = {
        model: dict(zip(("evaluations", "top_1"), map(float, np.mean(values, axis=0).round(6)), strict=True))
        for model, values in reached.items()
    }
    differences = [tuned - base for (_, base), (_, tuned) in zip(*reached.values(), strict=True)]
    seconds = round(float(np.mean([limit for limit, _ in each])), 1)
    return {"seconds": seconds, **means, "difference": t_interval(differences)}


def in_equal_time(found: Runs, runs: Runs, *pair: Run) -> tuple[float, list[tuple[int, float]]]:
    """The seconds of the faster of two searches, and what each had by then: evaluations, and quality of its best."""
    clocks = [np.cumsum([row["seconds"] for row in found[run]]) for run in pair]
    limit = float(min(clock[-1] for clock in clocks))
    counts = [int(np.searchsorted(clock, limit * (1 + 1e-9), side="right")) for clock in clocks]
    best = [runs[run][n - 1]["best_quality"] if n else 0.0 for run, n in zip(pair, counts, strict=True)]
    return limit, list(zip(counts, best, strict=True))
