"""Summaries of several ways of tuning (arms) over seeds, which benchmarks/trainers.py measures."""

import statistics
from typing import Any

from dartune.evaluation.statistics import significance, t_interval

GAINS = {  # gain: (the arm's metric, what is subtracted from it)
    "mean_gain": ("mean", "mean_base"),
    "top_10_gain": ("top_10", "top_10_base"),
    "same_evaluations": ("best", "best_at_equal_evaluations"),
    "same_seconds": ("best", "best_at_equal_seconds"),
}


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Return the means over the runs of one arm, one run a seed, and its gains with their 95 % t intervals.

    runs: metrics of the tuned model, the same of the base model as NAME_base, and what GAINS names. Each gain is
    {"estimate", "low", "high", "significance"}.
    """
    means = {name: round(statistics.mean(run[name] for run in runs), 4) for name in runs[0]}
    gains = {gain: t_interval([run[ours] - run[other] for run in runs]) for gain, (ours, other) in GAINS.items()}
    judged = {gain: interval | {"significance": significance(interval)} for gain, interval in gains.items()}
    return {"n_seeds": len(runs), **means, **judged}
