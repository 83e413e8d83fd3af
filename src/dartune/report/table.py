"""Base against tuned, and trainers against each other, as rows: for the page and the model card."""

import statistics
from typing import Any

from dartune.evaluation.statistics import MODELS, significance, t_interval

METRICS = {  # key: (label, unit, the direction that is better; 0 where there is none)
    "validity": ("valid", "share", 1),
    "mean": ("mean quality", "quality", 1),
    "median": ("median quality", "quality", 1),
    "top_10": ("mean of the top 10", "quality", 1),
    "best_of_10": ("expected best of 10", "quality", 1),
    "best_of_100": ("expected best of 100", "quality", 1),
    "better_than_template": ("better than the template", "share", 1),
    "equal_to_template": ("equal to the template", "share", 0),
    "distinct_behaviours": ("distinct behaviours", "share", 0),
    "gap_percent_best": ("gap of the best", "gap", -1),
    "gap_percent_top_10": ("mean gap of the top 10", "gap", -1),
    "gap_percent_median": ("median gap", "gap", -1),
    "mean_tokens": ("mean length, tokens", "tokens", 0),
}
SEARCH_METRICS = {"top_1": "best program", "top_10": "mean of the ten best"}
UNITS = {"share": (100, ".1f", " %"), "quality": (1, ".3f", ""), "gap": (1, ".2f", " %"), "tokens": (1, ".1f", "")}
GAINS = {  # gain: (the arm's metric, what is subtracted from it)
    "mean_gain": ("mean", "mean_base"),
    "top_10_gain": ("top_10", "top_10_base"),
    "same_evaluations": ("best", "best_at_equal_evaluations"),
    "same_seconds": ("best", "best_at_equal_seconds"),
}
LEGEND = "quality: score as a fraction of the reference (1 = as good), failures 0; > template: scores better than it"


def in_unit(value: float | None, unit: str, is_difference: bool = False) -> str:
    """Return a number in its unit, a dash for None. unit: of UNITS. Differences of shares and gaps are in points."""
    if value is None:
        return "–"
    factor, form, suffix = UNITS[unit]
    if is_difference:
        return f"{factor * value:+z{form}}".replace("-", "−")
    return f"{factor * value:z{form}}{suffix}"


def metric_rows(measured: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows, by metric, of base against tuned on one split. The bars of all intervals share one scale."""
    differences = measured["difference"]
    scale = max(abs(bound) for interval in differences.values() for bound in interval.values()) or 1.0
    rows = {}
    for key, (label, unit, better) in METRICS.items():
        if not all(key in measured[model] for model in MODELS):
            continue  # the best of more programs than were sampled
        base, tuned = (measured[model][key] for model in MODELS)
        change = None if None in (base, tuned) else tuned - base
        row = {"label": label, "unit": unit, "better": better, "base": base, "tuned": tuned, "change": change}
        if interval := differences.get(key):
            bar = {name: value / scale for name, value in interval.items()}
            row |= interval | {"significance": significance(interval), "bar": bar}
        rows[key] = row
    return rows


def search_rows(metrics: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each method and metric: base, tuned, their difference and its significance."""
    return [
        {
            "method": method,
            "label": label,
            **{model: measured[model][key] for model in MODELS},
            **measured["difference"][key],
            "significance": significance(measured["difference"][key]),
        }
        for method, measured in metrics.items()
        for key, label in SEARCH_METRICS.items()
    ]


def arm_summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Return the means over the runs of one arm, one run a seed, and its gains with their 95 % t intervals.

    runs: metrics of the tuned model, the same of the base model as NAME_base, and what GAINS names. Each gain is
    {"estimate", "low", "high", "significance"}.
    """
    means = {name: round(statistics.mean(run[name] for run in runs), 4) for name in runs[0]}
    gains = {gain: t_interval([run[ours] - run[other] for run in runs]) for gain, (ours, other) in GAINS.items()}
    judged = {gain: interval | {"significance": significance(interval)} for gain, interval in gains.items()}
    return {"n_seeds": len(runs), **means, **judged}
