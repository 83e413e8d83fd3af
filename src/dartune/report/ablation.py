"""Arms: ways of tuning beside each other over seeds, as benchmarks/trainers.py measures and the report shows them."""

import statistics
from typing import Any

from dartune.evaluation.statistics import t_interval

FIGURES = ("validity", "mean", "median", "top_10", "better_than_template", "distinct_behaviours")
GAINS = {  # by name: an arm's figure, and what is taken off it
    "mean_gain": ("mean", "mean_base"),
    "top_10_gain": ("top_10", "top_10_base"),
    "same_evaluations": ("found", "found_by_evaluations"),
    "same_seconds": ("found", "found_by_seconds"),
}


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Means over the runs, one a seed, and the gains with their 95 % t intervals: {"estimate", "low", "high"}.

    runs: FIGURES of the tuned model, the same of the base model as NAME_base, and what GAINS name.
    """
    means = {name: round(statistics.mean(run[name] for run in runs), 4) for name in runs[0]}
    gains = {gain: t_interval([run[ours] - run[other] for run in runs]) for gain, (ours, other) in GAINS.items()}
    return {"n_seeds": len(runs), **means, **gains}
