"""Checks whether figures of a model's programs got worse by more than their limits; for probes, gates and reports."""

from collections.abc import Mapping

# Name of a limit -> (the figure that it limits, what warnings call the change).
FIGURES = {
    "max_validity_drop": ("validity", "validity fell"),
    "max_distinct_drop": ("distinct_behaviours", "distinct behaviours fell"),
    "max_template_rise": ("equal_to_template", "copies of the template rose"),
    "max_length_drift": ("mean_tokens", "programs changed their length"),
    "max_chosen_drop": ("chosen", "chosen programs became unlikely"),
    "max_forgetting": ("loss_elsewhere", "other tasks' programs became unlikely"),
}


def exceeded(before: Mapping[str, float], after: Mapping[str, float], limits: Mapping[str, float]) -> list[str]:
    """Return the names of the limits that the change from `before` to `after` exceeds, in the order of FIGURES.

    before, after: values by figure; a limit whose figure is missing is skipped. limits: the largest change by name of
    limit; other keys are ignored. A *_drop is a fall, max_length_drift a share of the value before, the others a rise.
    """
    return [
        name
        for name, (figure, _) in FIGURES.items()
        if name in limits and figure in before and wrong_way(name, before[figure], after[figure]) > limits[name]
    ]


def wrong_way(limit: str, before: float, after: float) -> float:
    """Return by how much a figure got worse, rounded so that a fall from 0.97 to 0.92 does not exceed 0.05."""
    if limit == "max_length_drift":
        return round(abs(after / max(before, 1e-9) - 1), 9)
    return round(before - after if limit.endswith("_drop") else after - before, 9)
