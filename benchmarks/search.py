"""Does search beat sampling? The base model inside each method, at equal evaluations and at equal seconds.

`make search-methods`, or: python benchmarks/search.py --tasks tsp_construct --n-evaluations 500 --seeds 0 1 2. Guided
by validation instances; top 1 and top 10 are judged on test instances, which guide nothing. What is done is kept in
.work, so that a killed run goes on.
"""

import argparse
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dartune import params
from dartune.evaluation.search import Runs, by_seed, in_equal_time, judged_runs, summary
from dartune.evaluation.statistics import interval_text, t_interval
from dartune.files import batches
from dartune.models.backend import Decoding
from dartune.models.transformers_backend import TransformersBackend
from dartune.pool.ask_tell import INDEPENDENT, methods
from dartune.pool.search_loop import SearchSpec, options, run_searches
from dartune.referee.referee import MAX_SLOWDOWN, MEMORY_MIB, Referee
from dartune.report.plots import drawing, search_panel
from dartune.tasks.task import Task

BASE = Path("models/embedded")
GUIDE, HELD_OUT = "validation", "test"
DECODING = Decoding(temperature=1.0, top_p=0.95, max_new_tokens=256)
PLOT = Path("docs/search.svg")
LIMITS: dict[str, Any] = {"max_slowdown": MAX_SLOWDOWN, "memory_mib": MEMORY_MIB}


def main() -> None:
    """Print the table, and draw docs/search.svg."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=params.read()["tasks"])
    parser.add_argument("--n-evaluations", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    print(
        "| task | method | valid | top 1 | - independent | at equal seconds | top 10 | - independent | evaluations/s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    curves = {}
    for task in arguments.tasks:
        searches = searched(Task(task), arguments.n_evaluations, arguments.seeds)
        with Referee(Task(task), HELD_OUT, **LIMITS) as referee:
            runs = judged_runs(searches, referee, GUIDE, HELD_OUT)
        for line in lines(task, searches, runs, arguments.seeds):
            print(line, flush=True)
        curves[task] = {
            method: np.array([[row["best_quality"] for row in runs[method, "base", s]] for s in arguments.seeds])
            for method in methods()
        }
    drawn = drawing("Search methods", search_panel, curves, curves, ylabel="quality of the best so far")
    PLOT.write_text(drawn, encoding="utf-8")


def searched(task: Task, n_evaluations: int, seeds: list[int]) -> Runs:
    """Return the rows of every method's searches."""
    backend = TransformersBackend(BASE)
    searches: Runs = {}
    with Referee(task, GUIDE, **LIMITS) as referee:
        for method in methods():
            spec = SearchSpec(task, method, options(method), n_evaluations, seeds, DECODING, None)
            work = batches.WORK / "methods" / task.name / "finished"
            table = run_searches(f"methods {task.name} {method}", spec, backend, referee, work)
            searches |= {(method, "base", seed): rows for seed, rows in by_seed(table, seeds).items()}
    return searches


def lines(task: str, searches: Runs, runs: Runs, seeds: list[int]) -> Iterator[str]:
    """Yield the task's lines of the table, one for each method."""
    figures_of = {method: [summary(runs[method, "base", seed]) for seed in seeds] for method in methods()}
    for method, figures in figures_of.items():
        valid, top_1, top_10 = (statistics.mean(f[name] for f in figures) for name in ("validity", "top_1", "top_10"))
        against = partial(difference, figures, figures_of[INDEPENDENT])
        rate = statistics.mean(
            1 / statistics.mean(row["seconds"] for row in searches[method, "base", s]) for s in seeds
        )
        timed = interval_text(t_interval([at_equal_seconds(searches, runs, method, seed) for seed in seeds]))
        yield (
            f"| {task} | {method} | {valid:.3f} | {top_1:.3f} | {against('top_1')} | {timed} |"
            f" {top_10:.3f} | {against('top_10')} | {rate:.0f} |"
        )


def difference(ours: list[dict[str, float]], theirs: list[dict[str, float]], name: str) -> str:
    """Return the mean difference over seeds with its interval."""
    return interval_text(t_interval([mine[name] - other[name] for mine, other in zip(ours, theirs, strict=True)]))


def at_equal_seconds(searches: Runs, runs: Runs, method: str, seed: int) -> float:
    """The method's best minus sampling's after the seconds that the faster of the two took for all its evaluations."""
    _, (ours, theirs) = in_equal_time(searches, runs, (method, "base", seed), (INDEPENDENT, "base", seed))
    return ours[1] - theirs[1]


if __name__ == "__main__":
    main()
