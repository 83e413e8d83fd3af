"""Callbacks of the trainers: probes of the model, early stopping, and checkpoints that cost little."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from dartune.files import atomic
from dartune.models.checkpoint import save_model
from dartune.models.host import host_free, host_memory, release_memory
from dartune.training.distributed import agreed
from dartune.training.probe import Probe, ProbeConfig, warnings_of

RELEASE_STEPS = 10
SHORT = 0.25  # of the machine's memory: what fragments add in a step was a gigabyte with 500 million parameters
SAVE_AFTER_S = 30  # a checkpoint of 45 million weights and their moments takes one second, a step on a GPU a third


class ProbeCallback(TrainerCallback):  # type: ignore[misc]
    """Measures before the first step, n_times on the way and after the last.

    history: {"step", figures, "warnings"} in order. It is kept in the folder of checkpoints, so that a resumed training
    has it. probe: None in all processes but the main one, which sends its figures to the others. measured: an earlier
    probe of the model to begin with, whose samples are not written again; None where there is none.
    """

    def __init__(
        self, stage: str, probe: Probe | None, config: ProbeConfig, work: Path, measured: dict[str, Any] | None
    ) -> None:
        self.stage, self.probe, self.config, self.work, self.measured = stage, probe, config, work, measured
        self.history: list[dict[str, Any]] = []
        self.file = work / "probe.json"

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Measure the model to be trained, or read the history of a training that is resumed."""
        if state.global_step:
            saved = agreed(lambda: json.loads(self.file.read_text()))
            if self.probe and saved["reference"]:
                self.probe.reference = np.array(saved["reference"])
            self.history = [entry for entry in saved["history"] if entry["step"] <= state.global_step]
        else:
            self._measure(0, model, self.measured)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Measure the model where a probe is due, and stop the training if a warning asks for that."""
        if state.global_step in self._steps(state.max_steps):
            self._measure(state.global_step, model)
            if self.history[-1]["warnings"] and self.config["on_warning"] != "note":
                stop(control)

    def _steps(self, n_steps: int) -> set[int]:
        n = self.config["n_times"]
        return {max(1, round(n_steps * i / n)) for i in range(1, n + 1)}

    def _measure(self, step: int, model: Any, measured: dict[str, Any] | None = None) -> None:
        release_memory()  # or the probe takes its own beside what the steps have left
        figures = agreed(lambda: self.probe.measure(model, step, measured) if self.probe else {})
        warnings = warnings_of(self.history[0], figures, self.config) if self.history else []
        self.history.append({"step": step, **figures, "warnings": warnings})
        shown = ", ".join(f"{name} {figures[name]:.3f}" for name in ("validity", "mean", "distinct_behaviours"))
        print(f"{self.stage}: probe at step {step}: {shown}", file=sys.stderr, flush=True)
        for warning in warnings:
            print(f"{self.stage}: warning: {warning}", file=sys.stderr, flush=True)
        if self.probe:
            self._save(step, model, self.probe)

    def _save(self, step: int, model: Any, probe: Probe) -> None:
        """Write the history, and the model if it is the one to roll back to."""
        if self.config["on_warning"] == "roll_back" and self._best()["step"] == step:
            atomic.publish(lambda folder: save_model(model, folder), self.work / "best")
        reference = None if probe.reference is None else probe.reference.tolist()
        partial = self.file.with_suffix(".partial")
        atomic.write_json(partial, {"reference": reference, "history": self.history})
        partial.replace(self.file)

    def _best(self) -> dict[str, Any]:
        """Return the measurement of the highest mean quality among those without warnings; the first one has none."""
        return max((entry for entry in self.history if not entry["warnings"]), key=lambda entry: entry["mean"])

    def kept_step(self) -> int | None:
        """Return the step whose model replaces the last one, None where the last one is kept."""
        has_warnings = any(entry["warnings"] for entry in self.history)
        return int(self._best()["step"]) if has_warnings and self.config["on_warning"] == "roll_back" else None


class Release(TrainerCallback):  # type: ignore[misc]
    """Gives back free memory every RELEASE_STEPS, and after each step where the machine has little left.

    Everywhere after each, it would take an eighth of the time of two cores.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Give back what is free where it is due."""
        if state.global_step % RELEASE_STEPS == 0 or host_free() < SHORT * host_memory():
            release_memory()


class Patience(TrainerCallback):  # type: ignore[misc]
    """Stops after n evaluations in a row without a lower held-out loss. A resumed training has them in its history."""

    def __init__(self, n: int) -> None:
        self.n = n

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop where the last n evaluations are not better than the best before them."""
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        if len(losses) > losses.index(min(losses)) + self.n:
            stop(control)


class Saving(TrainerCallback):  # type: ignore[misc]
    """Drops checkpoints until SAVE_AFTER_S after the last one. With early stopping each evaluation needs its own."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Cancel a checkpoint that comes too soon after the last one."""
        if control.should_save and not args.load_best_model_at_end:
            control.should_save = agreed(lambda: time.monotonic() - self.last >= SAVE_AFTER_S)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note when the checkpoint was complete."""
        self.last = time.monotonic()


def stop(control: Any) -> None:
    """End the training without a checkpoint here, from which a run that is killed later would go on."""
    control.should_training_stop = True
    control.should_save = False
