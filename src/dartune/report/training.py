"""How a task's model was trained: the method, its settings, and the curves that it logged."""

from pathlib import Path
from typing import Any

from dartune.errors import UserError
from dartune.report.inputs import missing, read_json
from dartune.report.plots import Curves, probe_curves, training_curves

METHODS = {
    "dpo": "Direct preference optimisation: the model learns to prefer the chosen program of each pair to the rejected"
    " one, without going far from where it started.",
    "sft": "Supervised fine-tuning: the model learns to write the chosen programs; the rejected ones train nothing.",
    "grpo": "Group relative policy optimisation: the model writes programs, the referee rewards them, and those above"
    " their group's mean become likelier. The pairs train nothing.",
    "rloo": "REINFORCE leave-one-out: the model writes programs, the referee rewards them, and those above the mean of"
    " the others become likelier. The pairs train nothing.",
}
REWARDED = ("reward", "reward_std", "kl")
LOGGED = {  # the curves that are drawn of each method
    "dpo": ("loss", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"),
    "sft": ("loss",),
    "grpo": REWARDED,
    "rloo": REWARDED,
}
TRAIN_KEYS = ("n_pairs", "too_long", "settings", "steps", "last", "held_out", "probe", "kept_step")


def read_train(file: Path) -> dict[str, Any]:
    """Return the metrics of stage train. Raises UserError where an older version wrote them."""
    train = read_json(file, "stage train")
    if absent := [key for key in TRAIN_KEYS if key not in train]:
        raise UserError(f"report: {file} has no {absent[0]!r}; run stage train again")
    return train


def read_curves(folder: Path, train: dict[str, Any]) -> Curves:
    """Return the curves that the method logged, {} where training was too short to log a step."""
    settings, method = train["settings"], train["settings"]["method"]
    names = [name for name in LOGGED[method] if name != "kl" or settings[method]["beta"]]  # TRL logs no kl at beta 0
    return {name: read_curve(folder / "plots/metrics" / f"{name}.tsv") for name in names if train["last"]}


def read_curve(file: Path) -> list[tuple[float, float]]:
    """Return the (step, value) points of one DVCLive file. Raises UserError where it is missing or cut."""
    broken = f"report: {file} is not whole; run stage train again"
    try:
        text = file.read_text()
        header, *rows = (line.split("\t") for line in text.splitlines())
        points = [(float(step), float(value)) for step, value in rows]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise missing(file, "stage train") from error
    except ValueError as error:
        raise UserError(broken) from error
    if header != ["step", file.stem] or not points or not text.endswith("\n"):
        raise UserError(broken)
    return points


def training_section(task: str, train: dict[str, Any], curves: Curves) -> dict[str, Any]:
    """Return what the page shows of a training: {"how", "settings", "training", "probes"}.

    settings: by section of params.yaml. training, probes: drawings, None where there is nothing to draw.
    """
    settings, method = train["settings"], train["settings"]["method"]
    inner = {f"trainers.{method}": settings[method], "train.probe": settings["probe"]}
    probes = probe_series(train["probe"])
    return {
        "how": METHODS[method],
        "settings": {"train": {k: v for k, v in settings.items() if k not in (method, "probe")}} | inner,
        "training": training_curves(f"{task} training", curves, train["held_out"]) if curves else None,
        "probes": probe_curves(f"{task} probes", probes, train["kept_step"]) if probes else None,
    }


def probe_series(probes: list[dict[str, Any]]) -> Curves:
    """Return what the probes measured, as one curve a metric over the steps."""
    names = probes[0].keys() - {"step", "warnings"} if probes else ()
    return {name: [(probe["step"], probe[name]) for probe in probes if name in probe] for name in sorted(names)}


def setting(value: Any) -> str:
    """Return a value as params.yaml would have it, without brackets."""
    if isinstance(value, list):
        return ", ".join(map(setting, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}: {setting(item)}" for name, item in value.items())
    return "null" if value is None else str(value)
