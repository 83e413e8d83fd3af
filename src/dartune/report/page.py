"""The report's HTML page, which shows what tuning changed. It is self-contained."""

from collections import Counter
from difflib import unified_diff
from pathlib import Path
from typing import Any

import numpy as np

from dartune.evaluation.statistics import MODELS
from dartune.files.templates import render
from dartune.programs.escape import plain
from dartune.report.plots import best_panel, drawing, gain_panel, inline, instance_panel, search_panel, share_panel
from dartune.report.results import Result
from dartune.report.table import GAINS, arm_summary, in_unit, metric_rows, search_rows
from dartune.report.training import about, as_yaml, earlier_plots, methods, training_plots
from dartune.report.transfer import Matrix, transfer_plot
from dartune.report.verdicts import Verdicts, sentence


def page(
    sections: list[dict[str, Any]],
    trainers: dict[str, dict[str, Any]],
    verdicts: dict[str, Verdicts],
    transferred: Matrix,
    about: dict[str, str | None],
) -> str:
    """Return the HTML. Models wrote the programs and the reasons of failures: the template escapes all of them.

    sections: what `task_section` returns. trainers: the content of trainers.json, by task, arm and seed. verdicts: by
    task. transferred: of transfer.matrix. about: "model", "revision" and "preset" of the run.
    """
    from pygments.formatters import HtmlFormatter

    return render(
        Path(__file__).parent / "report.html.jinja",
        filters={"in_unit": in_unit, "plain": plain, "inline": inline, "yaml": as_yaml},
        tasks=sections,
        verdicts=verdicts,
        sentence=sentence(verdicts),
        about=about,
        transferred=transferred,
        transfer_plot=transfer_plot(transferred, [section["name"] for section in sections]),
        measures=list(dict.fromkeys(name for measures in verdicts.values() for name in measures)),
        gains={task: gains_plot(task, arms) for task, arms in trainers.items()},
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
        "method": ", then ".join(methods(train)),
        "weights": train["weights"],
        "how": about(train),
        "plots": {
            "distributions": drawing(f"{task}: distribution of quality", share_panel, qualities, ylabel=share),
            "best_of": drawing(f"{task}: best of k samples", best_panel, qualities, ylabel=best),
            "instances": instances_plot(task, result),
            "searches": drawing(f"{task}: searches", search_panel, curves, curves, ylabel=searched),
            **training_plots(task, train, result.curves),
            "earlier": earlier_plots(task, train, result.earlier_curves),
        },
        "searches": search_rows(result.searches),
        "best": {model: best_programs(result, model, n_best) for model in MODELS},
        "change": change(result),
        "failures": failures(result),
    }


def best_programs(result: Result, model: str, n: int) -> list[dict[str, Any]]:
    """Return the n best of a model's programs that act differently on the held-out split: {"html", "splits"}.

    Of programs that act alike, the best, then the shortest. html: Pygments escapes what the model wrote. splits: the
    program's row on each split.
    """
    by_sample = {split: {row["sample"]: row for row in result.rows[split][model]} for split in result.splits}
    return [
        {
            "html": highlighted(plain(row["program"]), "python"),
            "splits": {split: samples[row["sample"]] for split, samples in by_sample.items()},
        }
        for row in best_rows(result, model)[:n]
    ]


def best_rows(result: Result, model: str) -> list[dict[str, Any]]:
    """Return the held-out rows of a model's valid programs that act differently, the best first."""
    best: dict[str, dict[str, Any]] = {}
    valid = [row for row in result.rows[result.held_out][model] if row["behaviour"]]
    for row in sorted(valid, key=lambda row: (-row["quality"], len(row["program"]), row["sample"])):
        best.setdefault(row["behaviour"], row)
    return list(best.values())


def highlighted(text: str, language: str) -> str:
    """Return HTML of a text in a language of Pygments, which escapes it."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name

    return str(highlight(text, get_lexer_by_name(language), HtmlFormatter(nowrap=True)))


def change(result: Result) -> str | None:
    """Return the tuned model's best program as a diff from the task's template, as HTML; None where none is valid."""
    best = best_rows(result, "tuned")
    if not best:
        return None
    before, after = (plain(text).strip().splitlines() for text in (result.template, best[0]["program"]))
    lines = list(unified_diff(before, after, n=100, lineterm=""))[3:]  # without the names of files and of lines
    return highlighted("\n".join(lines) or "  the template itself", "diff")


def instances_plot(task: str, result: Result) -> str | None:
    """Return the drawing of both models' ten best programs on each instance; None for a single instance, or none."""
    objectives = {}
    for model in MODELS:
        rows = sorted(result.rows[result.held_out][model], key=lambda row: -row["quality"])[:10]
        objectives[model] = np.array([row["costs"] for row in rows if row["costs"]])
    if any(costs.ndim != 2 or costs.shape[1] < 2 for costs in objectives.values()):
        return None
    means = {model: np.abs(costs.mean(axis=0)) for model, costs in objectives.items()}
    return drawing(f"{task}: instances", instance_panel, {f"objective, {result.held_out}": means}, ylabel="tuned")


def gains_plot(task: str, arms: dict[str, dict[str, Any]]) -> str:
    """Return the drawing of what each trainer gained, by gain and arm. arms: runs by seed, of trainers.json."""
    labels = ("mean − base", "top 10 − base", "best − base, same evaluations", "best − base, same seconds")
    panels = {
        label: {arm: [run[ours] - run[other] for run in runs.values()] for arm, runs in arms.items()}
        for label, (ours, other) in zip(labels, GAINS.values(), strict=True)
    }
    return drawing(f"{task}: trainers", gain_panel, panels)


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
