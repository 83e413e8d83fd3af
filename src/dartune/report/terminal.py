"""Base against tuned as text: what a run prints at its end."""

from textwrap import wrap
from typing import Any

from dartune.evaluation.statistics import MODELS, interval_text, significance
from dartune.report.results import Result
from dartune.report.table import LEGEND
from dartune.report.verdicts import EQUAL_COST, Verdicts, sentence

SAMPLED = "{model:<5}{validity:>9.1%}{mean:>8.3f}{median:>8.3f}{top_10:>8.3f}{better_than_template:>14.1%}"


def terminal_table(results: dict[str, Result], verdicts: dict[str, Verdicts], warnings: dict[str, list[str]]) -> str:
    """Return base against tuned, with searches and equal-cost controls, in at most 110 columns; then the warnings."""
    head = f"{'':<25}{'valid':>9}{'mean':>8}{'median':>8}{'top 10':>8}{'> template':>14}   mean difference"
    lines = ["base against tuned", head + " [95 % interval]"]
    for task, result in results.items():
        n = result.splits[result.held_out]["tuned"]["n_samples"]
        lines += ["", f"{task} ({n} programs of each model)"]
        for split, measured in result.splits.items():
            base, tuned = (SAMPLED.format(model=model, **measured[model]) for model in MODELS)
            lines += [f"  {split:<17} {base}", f"{'':<20}{tuned}   {difference_text(measured, 'mean')}"]
    lines += ["", f"{'best of a search, held-out':<48}{'base':>8}{'tuned':>8}   mean difference [95 % t interval]"]
    for task, result in results.items():
        for method, measured in result.searches.items():
            label = f"  {task:<19} {method:<10}{measured['n_evaluations']} x {measured['n_seeds']} seeds"
            values = "".join(f"{measured[model]['top_1']:>8.3f}" for model in MODELS)
            lines.append(f"{label:<48}{values}   {difference_text(measured, 'top_1')}")
    lines += control_lines(verdicts)
    lines += ["", LEGEND, "", *wrap(sentence(verdicts), 110), ""]
    lines += [f"warning: {task}: {warning}" for task in results for warning in warnings[task]] or ["no warnings"]
    return "\n".join(lines) + "\n"


def difference_text(measured: dict[str, Any], key: str) -> str:
    """Return the difference of a metric with its interval and significance."""
    interval = measured["difference"][key]
    return f"{interval_text(interval)} {significance(interval)}"


def control_lines(verdicts: dict[str, Verdicts]) -> list[str]:
    """Return the lines of the equal-cost controls, none where nobody measured them."""
    lines = [
        f"  {task:<19} {measure:<18}{'':<24}   {interval_text(measures[measure])} {measures[measure]['significance']}"
        for task, measures in verdicts.items()
        for measure in EQUAL_COST.values()
        if measure in measures
    ]
    head = f"{'not of this run but of make trainers: best at equal cost':<64}   mean difference [95 % t interval]"
    return ["", head, *lines] if lines else []
