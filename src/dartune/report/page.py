"""The report's HTML page, which shows what tuning changed. It is self-contained."""

from collections import Counter
from pathlib import Path
from typing import Any

from dartune.evaluation.statistics import MODELS
from dartune.files.templates import render
from dartune.programs.escape import plain
from dartune.report.ablation import arm_rows
from dartune.report.plots import best_of_curves, distributions, search_curves
from dartune.report.results import Result
from dartune.report.searches import search_rows
from dartune.report.table import in_unit, metric_rows
from dartune.report.training import setting, training_section

MAX_PROGRAM = 6000  # characters shown of a program
Rows = list[dict[str, Any]]


def page(
    results: dict[str, Result], warnings: dict[str, list[str]], n_best: int, trainers: dict[str, dict[str, Any]]
) -> str:
    """Return the HTML. Models wrote the programs and the reasons of failures: the template escapes all of them.

    warnings: by task. n_best: programs of each model shown side by side. trainers: the content of trainers.json.
    """
    from pygments.formatters import HtmlFormatter

    return render(
        Path(__file__).parent / "report.html.jinja",
        filters={"in_unit": in_unit, "plain": plain, "setting": setting},
        tasks=[task_section(task, result, warnings[task], n_best) for task, result in results.items()],
        trainings={task: arm_rows(arms) for task, arms in trainers.items()},
        styles=[HtmlFormatter(style=name).get_style_defs(".program") for name in ("default", "github-dark")],
    )


def task_section(task: str, result: Result, warnings: list[str], n_best: int) -> dict[str, Any]:
    """Return what the page shows of a task."""
    qualities = result.qualities()
    return {
        "name": task,
        "result": result,
        "warnings": warnings,
        "n_samples": result.splits[result.held_out]["tuned"]["n_samples"],
        "tables": {split: metric_rows(measured) for split, measured in result.splits.items()},
        "distributions": distributions(f"{task} distributions", qualities),
        "best_of": best_of_curves(f"{task} best of k", qualities),
        **training_section(task, result.train, result.curves),
        "searches": search_rows(result.searches.metrics),
        "search_curves": search_curves(f"{task} searches", result.searches.curves),
        "best": {model: best_programs(result, model, n_best) for model in MODELS},
        "failures": failures(result),
    }


def best_programs(result: Result, model: str, n: int) -> Rows:
    """Return the n best of a model's programs that act differently on the held-out split: {"html", "splits", "alike"}.

    Of programs that act alike, the best, then the shortest. splits: the program's row on each split. alike: how many
    programs of each model act like it.
    """
    rows = result.rows[result.held_out]
    alike = {name: Counter(row["behaviour"] for row in rows[name]) for name in MODELS}
    by_sample = {split: {row["sample"]: row for row in result.rows[split][model]} for split in result.splits}
    best: dict[str, dict[str, Any]] = {}
    valid = [row for row in rows[model] if row["behaviour"]]
    for row in sorted(valid, key=lambda row: (-row["quality"], len(row["program"]), row["sample"])):
        best.setdefault(row["behaviour"], row)
    return [
        {
            "html": highlighted(row["program"]),
            "splits": {split: samples[row["sample"]] for split, samples in by_sample.items()},
            "alike": {name: count[row["behaviour"]] for name, count in alike.items()},
        }
        for row in list(best.values())[:n]
    ]


def highlighted(program: str) -> str:
    """Return the HTML of a program, at most MAX_PROGRAM characters of it. Pygments escapes what the model wrote."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    text = plain(program[:MAX_PROGRAM]) + ("\n# ... cut here" if len(program) > MAX_PROGRAM else "")
    return str(highlight(text, PythonLexer(), HtmlFormatter(nowrap=True)))


def failures(result: Result) -> Rows:
    """Return the share of each status in the pool and, on the held-out split, of both models' programs.

    {"status", "reason", "pool", "base", "tuned"}: valid programs first, then the commonest status. reason: the most
    frequent one.
    """
    models = result.rows[result.held_out]
    shares = {"pool": {name: count / result.score["n_programs"] for name, count in result.score["status"].items()}}
    for model, rows in models.items():
        counts = Counter(row["status"] for row in rows)
        shares[model] = {name: count / len(rows) for name, count in counts.items()}
    total = {name: sum(share.get(name, 0) for share in shares.values()) for share in shares.values() for name in share}
    return [
        {"status": status, "reason": commonest_reason(status, models)}
        | {source: share.get(status, 0.0) for source, share in shares.items()}
        for status in sorted(total, key=lambda name: (name != "ok", -total[name], name))
    ]


def commonest_reason(status: str, models: dict[str, Rows]) -> str:
    """Return the most frequent reason of a status, "" where nothing has this status."""
    reasons = Counter(row["reason"] for rows in models.values() for row in rows if row["status"] == status)
    return min(reasons, key=lambda reason: (-reasons[reason], reason), default="")
