"""How a task's model was trained: the method, and the curves that it logged."""

from io import StringIO
from pathlib import Path
from typing import Any

from dartune.errors import UserError
from dartune.report.plots import PROBE, TRAINING, Curves, drawing, filled, probe_panel, training_panel

METHODS = {
    "dpo": "Direct preference optimisation: the model learns to prefer the chosen program of each pair to the rejected"
    " one, without going far from where it started.",
    "sft": "Supervised fine-tuning: the model learns to write the chosen programs; the rejected ones train nothing.",
    "grpo": "Group relative policy optimisation: the model writes programs, the referee rewards them, and those above"
    " their group's mean become likelier. The pairs train nothing.",
    "rloo": "REINFORCE leave-one-out: the model writes programs, the referee rewards them, and those above the mean of"
    " the others become likelier. The pairs train nothing.",
}
REWARDED = ("reward", "reward_std", "kl")  # TRL logs no kl at beta 0
LOGGED = {  # the curves that are drawn of each method
    "dpo": ("loss", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"),
    "sft": ("loss",),
    "grpo": REWARDED,
    "rloo": REWARDED,
}


def methods(train: dict[str, Any]) -> list[str]:
    """Return the trainers that made a model, in turn. train: metrics of stage train."""
    return [part["settings"]["method"] for part in (*train["earlier"], train)]


def about(train: dict[str, Any]) -> str:
    """Return in words how a model was trained. train: metrics of stage train."""
    return " Then: ".join(METHODS[name] for name in methods(train))


def read_curves(folder: Path, method: str) -> Curves:
    """Return the curves that the method logged, {} where training was too short to log a step.

    folder: plots of stage train, one file of DVCLive a curve. Raises UserError where one is cut.
    """
    files = {name: folder / "plots/metrics" / f"{name}.tsv" for name in LOGGED[method]}
    return {name: read_curve(file) for name, file in files.items() if file.exists()}


def read_curve(file: Path) -> list[tuple[float, float]]:
    """Return the (step, value) points of one DVCLive file. Raises UserError where it is cut."""
    try:
        rows = [line.split("\t") for line in file.read_text().splitlines()]
        return [(float(step), float(value)) for step, value in rows[1:]]
    except ValueError as error:
        raise UserError(f"report: {file} is cut ({error}); run stage train again") from error


def training_plots(task: str, train: dict[str, Any], curves: Curves) -> dict[str, str | None]:
    """Return drawings of what training logged and of what the probes measured, None where there is nothing to draw."""
    panels, probes = filled(TRAINING, curves), probe_series(train["probe"])
    held_out, kept_step = train["held_out"], train["kept_step"]
    return {
        "training": drawing(f"{task}: training", training_panel, panels, curves, held_out) if curves else None,
        "probes": drawing(f"{task}: probes", probe_panel, filled(PROBE, probes), probes, kept_step) if probes else None,
    }


def earlier_plots(task: str, train: dict[str, Any], curves: list[Curves]) -> list[str]:
    """Return drawings of what the trainings before the last one logged. curves: of each of them."""
    parts = zip(methods(train), train["earlier"], curves, strict=False)
    drawings = [training_plots(f"{task}, {name}", part, logged)["training"] for name, part, logged in parts]
    return [text for text in drawings if text]


def probe_series(probes: list[dict[str, Any]]) -> Curves:
    """Return what the probes measured, as one curve a metric over the steps."""
    names = probes[0].keys() - {"step", "warnings"} if probes else ()
    return {name: [(probe["step"], probe[name]) for probe in probes if name in probe] for name in sorted(names)}


def as_yaml(values: dict[str, Any]) -> str:
    """Return the values as YAML; the innermost dictionaries and lists on one line each."""
    from ruamel.yaml import YAML

    stream, writer = StringIO(), YAML()
    writer.default_flow_style = None
    writer.width = 110
    writer.dump(values, stream)
    return stream.getvalue().strip()
