"""Stage report: a page of HTML, a table for the terminal, and the few numbers that `dvc metrics diff` compares."""

from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from dartune.evaluation.statistics import MODELS
from dartune.files import atomic
from dartune.report.inputs import read_json
from dartune.report.page import page
from dartune.report.plots import distributions, search_curves, standalone, training_curves
from dartune.report.resources import resources_page
from dartune.report.results import Result, read_result
from dartune.report.table import terminal_table
from dartune.report.warnings import warnings_of


def write_report(
    tasks: list[str],
    metrics: Path,
    evaluation: Path,
    search: Path,
    plots: Path,
    output: Path,
    summary: Path,
    resources: Path,
    *,
    n_best: PositiveInt,
    max_validity_drop: float,
    max_distinct_drop: float,
    max_template_rise: float,
) -> None:
    """Write index.html, summary.txt and plots/ into `output`, the numbers of each task as JSON, and the resources page.

    metrics, evaluation, search, plots: folders that the earlier stages wrote. summary: the JSON. resources: an HTML
    page of seconds and memory. n_best: programs of each model shown side by side. max_validity_drop, max_distinct_drop,
    max_template_rise: shares of all samples by which the tuned model may fall behind the base model without a warning.
    Raises UserError where a file is missing, cut or of an older version; nothing is written then.
    """
    limits = {
        "max_validity_drop": max_validity_drop,
        "max_distinct_drop": max_distinct_drop,
        "max_template_rise": max_template_rise,
    }
    results = {task: read_result(task, metrics, evaluation, search, plots) for task in tasks}
    warnings = {task: warnings_of(result, limits) for task, result in results.items()}
    html = page(results, warnings, n_best, read_json(metrics / "trainers.json", "`make trainers`"))
    output.mkdir(parents=True, exist_ok=True)
    write_plots(results, output / "plots")
    (output / "summary.txt").write_text(terminal_table(results, warnings), encoding="utf-8")
    atomic.write_json(summary, {task: task_summary(result, len(warnings[task])) for task, result in results.items()})
    (output / "index.html").write_text(html, encoding="utf-8")
    searches = {task: result.searches for task, result in results.items()}
    resources.write_text(resources_page(searches, metrics), encoding="utf-8")


def write_plots(results: dict[str, Result], folder: Path) -> None:
    """Write the main drawings as SVG files, which Prefect's pages show."""
    folder.mkdir(exist_ok=True)
    for task, result in results.items():
        drawings = {
            "distributions": distributions(f"{task} distributions", result.qualities()),
            "searches": search_curves(f"{task} searches", result.searches.curves),
        }
        if result.curves:
            drawings["training"] = training_curves(f"{task} training", result.curves, result.train["held_out"])
        for name, svg in drawings.items():
            (folder / f"{task}-{name}.svg").write_text(standalone(svg), encoding="utf-8")


def task_summary(result: Result, n_warnings: int) -> dict[str, Any]:
    """Return the numbers by which two commits are compared, most of them of the held-out split."""
    held_out = result.splits[result.held_out]
    return {
        **{name: {model: held_out[model][name] for model in MODELS} for name in ("mean", "validity", "top_10")},
        "mean_difference": {split: measured["difference"]["mean"] for split, measured in result.splits.items()},
        "search_difference": {name: of["difference"]["top_1"] for name, of in result.searches.metrics.items()},
        "n_warnings": n_warnings,
    }
