"""Signs that a tuning went wrong, or that its gain is not shown."""

from typing import Any

from dartune.evaluation.statistics import MODELS, interval_text, significance
from dartune.report.results import Result

MAX_LENGTH_DRIFT = 0.25  # of the base model's mean length


def warnings_of(result: Result, limits: dict[str, float]) -> list[str]:
    """Return what went wrong with the tuning of one task, and gains that are not shown, one line each.

    limits: shares of the samples by which "validity" and "distinct_behaviours" may fall, "equal_to_template" may rise.
    """
    warnings = [
        share_warning(result, "validity", -1, limits, "validity fell:"),
        share_warning(result, "distinct_behaviours", -1, limits, "mode collapse: distinct behaviours"),
        share_warning(result, "equal_to_template", 1, limits, "mode collapse: equal to the template"),
        length_warning(result.splits[result.held_out]),
        *gain_warnings(result.splits),
        *training_warnings(result.train),
        *gate_warnings(result.rounds),
        *(f"pairs: {warning}" for warning in result.sample["warnings"]),
    ]
    return [warning for warning in warnings if warning]


def share_warning(result: Result, name: str, sign: int, limits: dict[str, float], words: str) -> str | None:
    """Return the warning of a share that moved by more than its limit, with the numbers of the first such split.

    sign: 1 where a rise is bad, -1 where a fall is.
    """
    changes = {split: sign * (m["tuned"][name] - m["base"][name]) for split, m in result.splits.items()}
    over = [split for split, change in changes.items() if round(change, 9) > limits[name]]
    if not over:
        return None
    base, tuned = (f"{100 * result.splits[over[0]][model][name]:.1f} %" for model in MODELS)
    return f"{words} {base} -> {tuned} on {', '.join(over)} (limit {100 * limits[name]:g} points)"


def length_warning(split: dict[str, Any]) -> str | None:
    """Return the warning of programs whose mean length moved by more than MAX_LENGTH_DRIFT."""
    base, tuned = (split[model]["mean_tokens"] for model in MODELS)
    if abs(tuned - base) <= MAX_LENGTH_DRIFT * base:
        return None
    return f"mean length drifted: {base:.1f} -> {tuned:.1f} tokens (limit {100 * MAX_LENGTH_DRIFT:g} % of base)"


def gain_warnings(splits: dict[str, Any]) -> list[str]:
    """Return the warnings of means that did not clearly rise, with the numbers of the first such split."""
    words = {"unclear": "change of mean quality is not clear of 0", "worse": "mean quality clearly fell"}
    means = {split: measured["difference"]["mean"] for split, measured in splits.items()}
    over = {kind: [split for split, mean in means.items() if significance(mean) == kind] for kind in words}
    return [
        f"{words[kind]} on {', '.join(names)}: {interval_text(means[names[0]])}"
        for kind, names in over.items()
        if names
    ]


def training_warnings(train: dict[str, Any]) -> list[str]:
    """Return what the probes of a training warned of, the last of each kind, and whether it was rolled back."""
    last = {
        warning.split(":")[0]: f"train: {warning} at step {probe['step']}"
        for probe in train["watch"]
        for warning in probe["warnings"]
    }
    kept = train["kept_step"]
    return [*last.values(), *([f"train: rolled back to step {kept}"] if kept is not None else [])]


def gate_warnings(rounds: dict[str, Any]) -> list[str]:
    """Return which rounds' models the gate refused, and why."""
    refused = [gate for gate in rounds["gates"] if not gate["is_accepted"]]
    return [f"rounds: round {gate['round']} refused: {'; '.join(gate['warnings'])}" for gate in refused]
