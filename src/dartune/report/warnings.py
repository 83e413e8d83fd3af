"""Warnings: signs that tuning went wrong, or that its gain is not significant."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from dartune.evaluation.statistics import MODELS, interval_text, significance
from dartune.referee.drift import FIGURES, exceeded
from dartune.report.results import Result
from dartune.tasks.contract import PREFIX

FORGEABLE = "programs can forge their scores: another package computes them in the programs' own processes"
MIN_VALID = 0.02  # share of a model's programs below which nothing can be compared
ADVICE = "`dartune pool TASK` shows answers; take a model that knows the task, or write its prompt.md anew"


def warnings_of(task: str, result: Result) -> list[str]:
    """Return the warnings about the tuning of one task, one line each. The limits are those of train.probe."""
    return [
        *([FORGEABLE] if task.startswith(PREFIX) else []),
        *failure_warnings(result),
        *drift_warnings(result.splits, result.metrics["train"]["settings"]["probe"]),
        *gain_warnings(result.splits),
        *training_warnings(result.metrics["train"]),
        *gate_warnings(result.metrics["rounds"]),
        *(f"pairs: {warning}" for warning in result.metrics["sample"]["warnings"]),
        *interpreter_warnings(result),
    ]


def failure_warnings(result: Result) -> Iterator[str]:
    """Yield a warning for a model that hardly writes a valid program, with the commonest failure and what to do."""
    for model in MODELS:
        rows = result.rows[result.held_out][model]
        failed = Counter((row["status"], row["reason"]) for row in rows if row["status"] != "ok")
        n_valid = len(rows) - failed.total()
        if n_valid <= MIN_VALID * len(rows):
            (status, reason), n = failed.most_common(1)[0]
            yield (
                f"no program to compare: {n_valid} of {len(rows)} of the {model} model are valid, {n} are {status}"
                f" ({reason[:100] or 'no reason'}); {ADVICE}"
            )


def drift_warnings(measured: dict[str, Any], limits: dict[str, float]) -> Iterator[str]:
    """Yield a warning for each limit that the tuned model exceeds, with the numbers of the first such split."""
    over = {split: exceeded(models["base"], models["tuned"], limits) for split, models in measured.items()}
    for limit, (figure, words) in FIGURES.items():
        if splits := [split for split, names in over.items() if limit in names]:
            base, tuned = (measured[splits[0]][model][figure] for model in MODELS)
            change = f"{base:.1f} -> {tuned:.1f} tokens" if figure == "mean_tokens" else f"{base:.1%} -> {tuned:.1%}"
            yield f"{words}: {change} on {', '.join(splits)} (train.probe.{limit} {limits[limit]:g})"


def gain_warnings(splits: dict[str, Any]) -> list[str]:
    """Return warnings of mean qualities that did not significantly rise, with the numbers of the first such split."""
    words = {"unclear": "change of mean quality is not clear of 0", "worse": "mean quality clearly fell"}
    means = {split: measured["difference"]["mean"] for split, measured in splits.items()}
    over = {kind: [split for split, mean in means.items() if significance(mean) == kind] for kind in words}
    return [
        f"{words[kind]} on {', '.join(names)}: {interval_text(means[names[0]])}"
        for kind, names in over.items()
        if names
    ]


def training_warnings(train: dict[str, Any]) -> list[str]:
    """Return the last warning of each kind that the probes gave, and whether training was rolled back."""
    last = {
        warning.split(":")[0]: f"train: {warning} at step {probe['step']}"
        for probe in train["probe"]
        for warning in probe["warnings"]
    }
    step = train["kept_step"]
    return [*last.values(), *([f"train: rolled back to step {step}"] if step is not None else [])]


def gate_warnings(rounds: dict[str, Any]) -> list[str]:
    """Return a warning for each round whose model the gate refused, with its reasons."""
    refused = [gate for gate in rounds["gates"] if not gate["is_accepted"]]
    return [f"rounds: round {gate['round']} refused: {'; '.join(gate['warnings'])}" for gate in refused]


def interpreter_warnings(result: Result) -> list[str]:
    """Return a warning where programs of the pool and the held-out ones were judged by different interpreters."""
    judged_by = {row["interpreter"] for models in result.rows.values() for rows in models.values() for row in rows}
    judged_by.add(result.metrics["score"]["interpreter"])
    return (
        [f"scores: judged by {' and by '.join(sorted(judged_by))}, which differ in sums"] if len(judged_by) > 1 else []
    )
