"""The report's HTML page, which shows what tuning changed. It is self-contained."""

from collections import Counter
from pathlib import Path
from typing import Any

from dartune.evaluation.statistics import MODELS
from dartune.files.templates import render
from dartune.programs.escape import plain
from dartune.report.plots import best_panel, drawing, inline, search_panel, share_panel
from dartune.report.results import Result
from dartune.report.table import arm_summary, in_unit, metric_rows, search_rows
from dartune.report.training import METHODS, as_yaml, training_plots


def page(sections: list[dict[str, Any]], trainers: dict[str, dict[str, Any]]) -> str:
    """Return the HTML. Models wrote the programs and the reasons of failures: the template escapes all of them.

    sections: what `task_section` returns. trainers: the content of trainers.json, by task, arm and seed.
    """
    from pygments.formatters import HtmlFormatter

    return render(
        Path(__file__).parent / "report.html.jinja",
        filters={"in_unit": in_unit, "plain": plain, "inline": inline, "yaml": as_yaml},
        tasks=sections,
        trainings={
            task: [{"arm": arm, **arm_summary([*runs.values()])} for arm, runs in arms.items()]
            for task, arms in trainers.items()
        },
        styles=[HtmlFormatter(style=name).get_style_defs(".program") for name in ("default", "github-dark")],
    )


def task_section(task: str, result: Result, warnings: list[str], n_best: int) -> dict[str, Any]:
    """Return what the page shows of a task. n_best: programs of each model shown side by side."""
    qualities, curves, train = result.qualities(), result.search_curves, result.metrics["train"]
    share, best, searched = "samples with quality ≥ x", "expected best quality of k", "quality of the best so far"
    return {
        "name": task,
        "result": result,
        "warnings": warnings,
        "n_samples": result.splits[result.held_out]["tuned"]["n_samples"],
        "tables": {split: metric_rows(measured) for split, measured in result.splits.items()},
        "how": METHODS[train["settings"]["method"]],
        "plots": {
            "distributions": drawing(f"{task}: distribution of quality", share_panel, qualities, ylabel=share),
            "best_of": drawing(f"{task}: best of k samples", best_panel, qualities, ylabel=best),
            "searches": drawing(f"{task}: searches", search_panel, curves, curves, ylabel=searched),
            **training_plots(task, train, result.curves),
        },
        "searches": search_rows(result.searches),
        "best": {model: best_programs(result, model, n_best) for model in MODELS},
        "failures": failures(result),
    }


def best_programs(result: Result, model: str, n: int) -> list[dict[str, Any]]:
    """Return the n best of a model's programs that act differently on the held-out split: {"html", "splits"}.

    Of programs that act alike, the best, then the shortest. html: Pygments escapes what the model wrote. splits: the
    program's row on each split.
    """
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    by_sample = {split: {row["sample"]: row for row in result.rows[split][model]} for split in result.splits}
    best: dict[str, dict[str, Any]] = {}
    valid = [row for row in result.rows[result.held_out][model] if row["behaviour"]]
    for row in sorted(valid, key=lambda row: (-row["quality"], len(row["program"]), row["sample"])):
        best.setdefault(row["behaviour"], row)
    return [
        {
            "html": highlight(plain(row["program"]), PythonLexer(), HtmlFormatter(nowrap=True)),
            "splits": {split: samples[row["sample"]] for split, samples in by_sample.items()},
        }
        for row in list(best.values())[:n]
    ]


def failures(result: Result) -> list[dict[str, Any]]:
    """Return the share of each status in the pool and, on the held-out split, of both models' programs.

    {"status", "reason", "pool", "base", "tuned"}: the commonest status first. reason: its most frequent one.
    """
    models = result.rows[result.held_out]
    counts = {"pool": Counter(result.metrics["score"]["status"])}
    counts |= {model: Counter(row["status"] for row in rows) for model, rows in models.items()}
    reasons = Counter((row["status"], row["reason"]) for rows in models.values() for row in rows)
    commonest = {status: reason for (status, reason), _ in reversed(reasons.most_common())}  # the last one stays
    return [
        {"status": status, "reason": commonest.get(status, "")}
        | {source: count[status] / count.total() for source, count in counts.items()}
        for status, _ in sum(counts.values(), Counter[str]()).most_common()
    ]
