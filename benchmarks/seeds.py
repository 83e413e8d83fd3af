"""The pipeline on other seeds, as DVC experiments in copies of the working tree, and what came out beside this one.

`make evidence`, or: python benchmarks/seeds.py 1 2. Each seed is that of every stage from the pool on; the base model
stays. The experiments keep their names: `dvc exp show`, `dvc exp diff seed-1 seed-2`.
"""

import subprocess
import sys
from typing import Any

import dvc.api

SEEDED = ("pool", "sample", "pairs", "train", "evaluate")


def queue(seed: str) -> None:
    settings = [word for stage in SEEDED for word in ("-S", f"{stage}.seed={seed}")]
    subprocess.run(["dvc", "exp", "run", "--queue", "-n", f"seed-{seed}", *settings], check=True)


def rows(name: str, revision: str | None) -> list[list[str]]:
    """One row a task: mean quality of base and tuned on the held-out split, and the interval of the difference."""
    summary = dvc.api.metrics_show("metrics/summary.json", rev=revision)
    return [row(name, task, figures) for task, figures in summary.items()]


def row(name: str, task: str, figures: dict[str, Any]) -> list[str]:
    difference = next(iter(figures["mean_difference"].values()))  # the held-out split stands first
    cells = [figures["validity"]["base"], figures["validity"]["tuned"]]
    cells += [figures["mean"]["base"], figures["mean"]["tuned"]]
    cells += [figures["top_10"]["base"], figures["top_10"]["tuned"]]
    cells += [difference[key] for key in ("estimate", "low", "high")]
    return [name, task, *(f"{cell:.3f}" for cell in cells)]


def main(seeds: list[str]) -> None:
    for seed in seeds:
        queue(seed)
    subprocess.run(["dvc", "exp", "run", "--run-all", "-j", "2"], check=True)
    header = ["run", "task", "valid base", "tuned", "mean base", "tuned", "top 10 base", "tuned"]
    table = [[*header, "difference", "low", "high"], *rows("workspace", None)]
    for seed in seeds:
        table += rows(f"seed-{seed}", f"seed-{seed}")
    for line in table:
        print(" | ".join(["", *line, ""]).strip())


if __name__ == "__main__":
    main(sys.argv[1:])
