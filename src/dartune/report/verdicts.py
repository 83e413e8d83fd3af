"""What the report says first: for each measure whether the tuned model is better, and one sentence on all of them."""

from typing import Any

from dartune.evaluation.statistics import significance
from dartune.report.results import Result
from dartune.report.table import arm_summary

SAMPLED = {"validity": "validity", "mean": "mean", "top_10": "top 10", "best_of_100": "best of 100"}
EQUAL_COST = {"same_evaluations": "same evaluations", "same_seconds": "same seconds"}
CONTROL = "the best at equal cost"
SEARCHED = "search: "  # begins the name of a search method's measure
Verdicts = dict[str, dict[str, Any]]  # {"estimate", "low", "high", "significance"} by measure


def verdicts(result: Result, trainings: dict[str, Any], is_embedded: bool) -> Verdicts:
    """Return how much better the tuned model is on the held-out split, by measure.

    trainings: what `make trainers` measured of the task with the embedded model, runs by arm and seed. Its equal-cost
    controls hold for that model and the trainer that was used here: what is best of the pool and of the tuned model,
    less what is best of the base model at the same cost.
    """
    sampled = result.splits[result.held_out]["difference"]
    measures = {label: sampled[name] for name, label in SAMPLED.items() if name in sampled}
    measures |= {SEARCHED + method: found["difference"]["top_1"] for method, found in result.searches.items()}
    runs = trainings.get(result.metrics["train"]["settings"]["method"]) if is_embedded else None
    control = arm_summary([*runs.values()]) if runs else {}
    measures |= {label: control[name] for name, label in EQUAL_COST.items() if name in control}
    return {label: interval | {"significance": significance(interval)} for label, interval in measures.items()}


def group(measure: str) -> str:
    """Return the words under which the sentence counts a measure."""
    if measure.startswith(SEARCHED):
        return "the best program of a search"
    return CONTROL if measure in EQUAL_COST.values() else f"the {measure}"


def sentence(by_task: dict[str, Verdicts]) -> str:
    """Return what the verdicts on all tasks come to, without flattery."""
    counts: dict[str, list[str]] = {}
    for measures in by_task.values():
        for measure, interval in measures.items():
            counts.setdefault(group(measure), []).append(interval["significance"])
    here = {words: signs for words, signs in counts.items() if words != CONTROL}
    parts = [f"{words} in {signs.count('better')} of {len(signs)}" for words, signs in here.items()]
    worse = [f"{words} in {signs.count('worse')}" for words, signs in here.items() if "worse" in signs]
    text = f"Tuning raised, by more than chance explains, {', '.join(parts)}."
    if worse:
        text += f" It lowered {', '.join(worse)}."
    if signs := counts.get(CONTROL):
        text += f" In the runs of `make trainers`, at equal cost, the best was better in {signs.count('better')} of"
        text += f" {len(signs)} and worse in {signs.count('worse')}."
    return f"{text} {conclusion(counts)}"


def conclusion(counts: dict[str, list[str]]) -> str:
    """Return what follows for the average program and for the best ones. counts: significances by words."""
    mean = "better" in counts["the mean"]
    best = any("better" in signs for words, signs in counts.items() if words not in ("the mean", "the validity"))
    if mean:
        return "The average program is better, and some of the best are." if best else AVERAGE_ONLY
    return (
        "Some of the best programs are better; the average one is not."
        if best
        else "Nothing here shows that it helped."
    )


BEST_ONLY = "Some of the best programs are better; the average one is not."
AVERAGE_ONLY = "So the average program is better; nothing shows that the best ones are."
