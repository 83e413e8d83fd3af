"""The callback that looks at a model while it is trained. What it measures and what it warns of: watch.py."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from dartune.files import atomic
from dartune.models.checkpoint import save_model
from dartune.training.distributed import agreed
from dartune.training.probe import Probe, ProbeConfig, warnings_of

SPARED, MOMENT = 10, 0.5  # s. A checkpoint of 45 million weights and their moments takes one, a step on a GPU a third


class ProbeCallback(TrainerCallback):  # type: ignore[misc]
    """Measures before the first step, n_times on the way and after the last.

    history: {"step", figures, "warnings"} in order. It lies in the journal's folder, so that a resumed training has it.
    probe: of the main process; the others have None, and are told what it finds.
    """

    def __init__(self, stage: str, probe: Probe | None, limits: ProbeConfig, work: Path) -> None:
        self.stage, self.probe, self.limits, self.work = stage, probe, limits, work
        self.history: list[dict[str, Any]] = []
        self.file = work / "watch.json"

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step:
            kept = agreed(lambda: json.loads(self.file.read_text()))
            if self.probe and kept["reference"]:
                self.probe.reference = np.array(kept["reference"])
            self.history = [each for each in kept["history"] if each["step"] <= state.global_step]
        else:
            self.look(0, model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step in self.due(state.max_steps):
            self.look(state.global_step, model)
            if self.history[-1]["warnings"] and self.limits["on_warning"] != "note":
                stop(control)

    def due(self, n_steps: int) -> set[int]:
        n = self.limits["n_times"]
        return {max(1, round(n_steps * i / n)) for i in range(1, n + 1)}

    def look(self, step: int, model: Any) -> None:
        figures = agreed(lambda: self.probe.measure(model, step) if self.probe else {})
        warnings = warnings_of(self.history[0], figures, self.limits) if self.history else []
        self.history.append({"step": step, **figures, "warnings": warnings})
        shown = ", ".join(f"{name} {figures[name]:.3f}" for name in ("validity", "mean", "distinct_behaviours"))
        print(f"{self.stage}: watch at step {step}: {shown}", file=sys.stderr, flush=True)
        for warning in warnings:
            print(f"{self.stage}: warning: {warning}", file=sys.stderr, flush=True)
        if self.probe:
            self.keep(step, model, self.probe)

    def keep(self, step: int, model: Any, probe: Probe) -> None:
        """Write the history, and the model where it is the one to go back to."""
        if self.limits["on_warning"] == "roll_back" and self.best()["step"] == step:
            atomic.publish(lambda folder: save_model(model, folder), self.work / "best")
        reference = None if probe.reference is None else probe.reference.tolist()
        partial = self.file.with_suffix(".partial")
        atomic.write_json(partial, {"reference": reference, "history": self.history})
        partial.replace(self.file)

    def best(self) -> dict[str, Any]:
        """The measurement of the highest mean quality among those without warnings; the first one has none."""
        return max((each for each in self.history if not each["warnings"]), key=lambda each: each["mean"])

    def kept_step(self) -> int | None:
        """The step whose model is to be kept instead of the last one; None where the last is."""
        is_off = any(each["warnings"] for each in self.history)
        return int(self.best()["step"]) if is_off and self.limits["on_warning"] == "roll_back" else None


class Patience(TrainerCallback):  # type: ignore[misc]
    """Stops after n looks in a row without a lower held-out loss; they stand in the history, which is resumed."""

    def __init__(self, n: int) -> None:
        self.n = n

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        if len(losses) > losses.index(min(losses)) + self.n:
            stop(control)


class Saving(TrainerCallback):  # type: ignore[misc]
    """Puts off a checkpoint until training has gone on for SPARED times as long as the last one took to write.

    One that took less than a MOMENT is worth no delay. Where held-out pairs are looked at, each look needs its own.
    """

    def __init__(self) -> None:
        self.start = self.end = time.monotonic()
        self.cost = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if control.should_save and not args.load_best_model_at_end:
            control.should_save = agreed(lambda: time.monotonic() - self.end >= SPARED * self.cost)

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.start = time.monotonic()  # a step that is saved is logged just before

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.end = time.monotonic()
        self.cost = self.end - self.start if self.end - self.start >= MOMENT else 0.0


def stop(control: Any) -> None:
    """End the training here, without a checkpoint: a run that was killed after it would go on from that one."""
    control.should_training_stop = True
    control.should_save = False
