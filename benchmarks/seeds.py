"""The pipeline with other seeds, as DVC experiments in copies of the working tree, and their results beside this run's.

`make evidence`, or: python benchmarks/seeds.py 1 2. Each seed is that of every stage from the pool on; the base model
stays. An experiment that exists is not run again. They keep their names: `dvc exp show`, `dvc exp diff seed-1 seed-2`.
"""

import sys
from typing import Any

import dvc.api
from experiments import SEEDED, run

from dartune.evaluation.statistics import MODELS, interval_text

METRICS = ("validity", "mean", "top_10")


def rows(name: str, revision: str | None) -> list[list[str]]:
    """Return one row a task: both models' metrics on the held-out split, and the difference of their means."""
    summary = dvc.api.metrics_show("metrics/summary.json", rev=revision)
    return [[name, task, *cells(next(iter(splits.values())))] for task, splits in summary.items()]


def cells(metrics: dict[str, Any]) -> list[str]:
    """Return the columns of a task. metrics: of its held-out split, which comes first in the summary."""
    values = [f"{metrics[name][model]:.3f}" for name in METRICS for model in MODELS]
    return [*values, interval_text(metrics["mean_difference"])]


def main(seeds: list[str]) -> None:
    run({f"seed-{seed}": {f"{stage}.seed": seed for stage in SEEDED} for seed in seeds}, [], [])
    header = ["run", "task", "valid base", "tuned", "mean base", "tuned", "top 10 base", "tuned", "mean difference"]
    table = [header, ["---"] * len(header), *rows("workspace", None)]
    for seed in seeds:
        table += rows(f"seed-{seed}", f"seed-{seed}")
    for line in table:
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
