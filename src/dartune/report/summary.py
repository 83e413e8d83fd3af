"""What DVC compares between commits and experiments: a few numbers of each task, and the tables of its plots."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dartune.evaluation.statistics import MODELS, best_of
from dartune.report.results import Result

METRICS = ("validity", "mean", "top_10", "best_of_100")  # by which two models are compared
DIGITS = 3  # beyond them, equal runs on two kinds of processors differ
PLOTS = ("distribution", "best_of_k", "convergence", "training")  # tables of dvc.yaml's plots, one CSV each
N_POINTS = 50  # of a line, at most
Row = tuple[str, str, float, float]  # task, line, x, y


def task_summary(result: Result, n_warnings: int) -> dict[str, Any]:
    """Return the metrics of both models and their mean's difference by split, the searches' difference by method."""
    splits = {split: split_summary(measured) for split, measured in result.splits.items()}
    searches = {method: rounded(measured["difference"]["top_1"]) for method, measured in result.searches.items()}
    return {**splits, "search_difference": searches, "n_warnings": n_warnings}


def split_summary(measured: dict[str, Any]) -> dict[str, Any]:
    """Return {metric: {model: value}}, and "mean_difference" with its interval. Few samples have no best of 100."""
    values = {
        name: rounded({model: measured[model][name] for model in MODELS})
        for name in METRICS
        if all(name in measured[model] for model in MODELS)
    }
    return {**values, "mean_difference": rounded(measured["difference"]["mean"])}


def rounded(values: dict[str, float | None]) -> dict[str, float | None]:
    """Return the values with DIGITS decimals; a search of one seed has no interval."""
    return {name: None if value is None else round(value, DIGITS) for name, value in values.items()}


def write_plots(results: dict[str, Result], folder: Path) -> None:
    """Write PLOTS into a folder as CSV, with the columns task, line, x and y."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"distribution": distribution, "best_of_k": best_of_k, "convergence": convergence, "training": training}
    for name in PLOTS:
        rows = [(task, *row) for task, result in results.items() for row in tables[name](result)]
        lines = ["task,line,x,y", *(f"{task},{line},{x:.4g},{y:.4g}" for task, line, x, y in rows)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


Line = Iterator[tuple[str, float, float]]  # its name, x, y


def distribution(result: Result) -> Line:
    """Yield, for each model, the share of held-out samples (y) that reach a quality (x)."""
    for model, qualities in result.qualities()[result.held_out].items():
        for quality in np.quantile(qualities, np.linspace(0, 1, N_POINTS)):
            yield model, float(quality), float((qualities >= quality).mean())


def best_of_k(result: Result) -> Line:
    """Yield, for each model, the expected best held-out quality (y) of k samples (x)."""
    for model, qualities in result.qualities()[result.held_out].items():
        for k in sorted({int(k) for k in np.geomspace(1, len(qualities), N_POINTS // 2).round()}):
            yield model, k, float(best_of(k, qualities))


def convergence(result: Result) -> Line:
    """Yield, for each search method and model, the held-out quality of the best so far (y) by evaluations (x)."""
    for method, curves in result.search_curves.items():
        for model, seeds in curves.items():
            for i in np.unique(np.linspace(0, seeds.shape[1] - 1, N_POINTS).round().astype(int)):
                yield f"{method} {model}", int(i) + 1, float(seeds[:, i].mean())


def training(result: Result) -> Line:
    """Yield, by step (x), the log-probabilities of chosen and rejected (y); the loss or the reward where none are."""
    names = [name for name in ("logps/chosen", "logps/rejected") if name in result.curves]
    for name in names or [name for name in ("reward", "loss") if name in result.curves][:1]:
        for step, value in result.curves[name]:
            yield name.removeprefix("logps/"), step, value
