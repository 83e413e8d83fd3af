"""The transfer matrix: what tuning on one task did to what the model writes for another."""

from typing import Any

import numpy as np

from dartune.evaluation.statistics import significance
from dartune.report.plots import WIDTH, drawing
from dartune.report.results import Result

Matrix = dict[tuple[str, str], dict[str, dict[str, Any]]]  # by task and split that are judged on, and task tuned on
METRIC = "mean"
MAX_LEVEL = 10  # columns whose names have room beside each other; those of more are turned
COLOURS = "PuOr"  # two colours that are told apart by most; white is no difference


def matrix(results: dict[str, Result]) -> Matrix:
    """Return the differences in mean quality, each {"estimate", "low", "high", "significance"}; or {}.

    results: by the task that was tuned on. {} where no transfer was asked for. A task's own differences are among them.
    """
    if not any(result.transferred for result in results.values()):
        return {}
    cells: Matrix = {}
    for task, result in results.items():
        for other, splits in {task: result.splits, **result.transferred}.items():
            for split, measured in splits.items():
                interval = measured["difference"][METRIC]
                cells.setdefault((other, split), {})[task] = interval | {"significance": significance(interval)}
    order = [*results, *(task for task, _ in cells)]
    return dict(sorted(cells.items(), key=lambda cell: order.index(cell[0][0])))


def transfer_plot(cells: Matrix, tasks: list[str]) -> str | None:
    """Return the heat map, a row for each of the tasks that were tuned on; None where there is nothing to show."""
    if not cells:
        return None
    estimates = [[of.get(task, {"estimate": np.nan})["estimate"] for of in cells.values()] for task in tasks]
    labels = [f"{task}\n{split}" for task, split in cells]
    below = 0.5 if len(labels) <= MAX_LEVEL else 1.4  # inches
    return drawing(
        "transfer",
        heat_panel,
        {"mean quality, tuned − base": np.array(estimates)},
        tasks,
        labels,
        size=(WIDTH, 0.25 + 0.3 * len(tasks) + below),
        margins=(1.3, below),
    )


def heat_panel(axis: Any, estimates: np.ndarray, tuned_on: list[str], judged_on: list[str]) -> None:
    """Draw estimates (tuned on, judged on) as colours and numbers. NaN was not measured and stays blank."""
    most = max(np.nanmax(np.abs(estimates)), 0.01)
    axis.pcolormesh(np.ma.masked_invalid(estimates), cmap=COLOURS, vmin=-2 * most, vmax=2 * most)
    for (row, column), value in np.ndenumerate(estimates):
        if not np.isnan(value):
            axis.text(column + 0.5, row + 0.5, f"{value:+.3f}", ha="center", va="center", fontsize=6.5, color="black")
    axis.set_yticks(np.arange(len(tuned_on)) + 0.5, tuned_on, fontsize=6.5)
    rotation = 0 if len(judged_on) <= MAX_LEVEL else 90
    axis.set_xticks(np.arange(len(judged_on)) + 0.5, judged_on, fontsize=6.5, rotation=rotation)
    axis.invert_yaxis()
    axis.grid(visible=False)
