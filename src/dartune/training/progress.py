"""Progress of a training: a line on the terminal, and curves of the logged values, written by DVCLive as they come."""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

# Parts of names whose values differ from run to run: not in files that DVC hashes. TRL counts num_tokens from where a
# run was resumed.
UNSTEADY = ("time", "per_second", "total_flos", "profiling", "num_tokens")


class Progress(TrainerCallback):  # type: ignore[misc]
    """Prints stage, step, loss and the time left whenever the trainer logs."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.start, self.first = time.monotonic(), 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note the first step, from which the time left is computed."""
        self.start, self.first = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Print the values in SHOWN."""
        values = {key: value for key, value in (logs or {}).items() if key in SHOWN}
        done = state.global_step - self.first
        left = (time.monotonic() - self.start) / max(done, 1) * (state.max_steps - state.global_step)
        shown = ", ".join(f"{SHOWN[key]} {float(value):.3f}" for key, value in values.items())
        step = f"step {state.global_step} of {state.max_steps}"
        if values:
            print(f"{self.stage}: {step}, {shown}, {left:.0f} s left", file=sys.stderr, flush=True)


SHOWN = {
    "loss": "loss",
    "reward": "reward",
    "eval_loss": "held-out loss",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "logps/chosen": "log-probability of chosen",
}


def step_entries(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return the log entries of training steps without values that differ from run to run.

    Sorted, the step first: a resumed trainer reads its history from a file, which sorts it.
    """
    entries = [{"step": entry["step"]} | dict(sorted(entry.items())) for entry in history if "loss" in entry]
    return [
        {name: round(float(value), 6) for name, value in entry.items() if not any(word in name for word in UNSTEADY)}
        for entry in entries
    ]


class Curves(TrainerCallback):  # type: ignore[misc]
    """Writes one file of steps and values per logged name, FOLDER/plots/metrics/NAME.tsv, which DVC's plots show.

    A resumed training writes the steps before its checkpoint again, so the files are those of an undisturbed one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Empty the folder and write the steps before a resumed training's checkpoint."""
        from dvclive.live import Live

        if state.is_world_process_zero:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.live = Live(str(self.folder), save_dvc_exp=False, dvcyaml=None)
            for entry in step_entries(state.log_history):
                self.write(entry)

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Append the values of the last log entry."""
        if state.is_world_process_zero:
            for entry in step_entries(state.log_history[-1:]):
                self.write(entry)

    def write(self, entry: dict[str, float]) -> None:
        """Append one step's values."""
        self.live.step = int(entry["step"])
        for name, value in entry.items():
            if name != "step":
                self.live.log_metric(name, value)
