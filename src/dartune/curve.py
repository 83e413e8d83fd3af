"""The curve of a training run: a line of progress on the terminal, and the logged values as CSV."""

import csv
import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

WALL_CLOCK = (
    "runtime",
    "per_second",
    "total_flos",
)  # they differ from run to run: not in files that DVC hashes


class Progress(TrainerCallback):  # type: ignore[misc]
    """Prints stage, step, loss and the time left whenever the trainer logs."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.start, self.first = time.monotonic(), 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.start, self.first = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        values = {key: value for key, value in (logs or {}).items() if key in SHOWN}
        done = state.global_step - self.first
        left = (time.monotonic() - self.start) / max(done, 1) * (state.max_steps - state.global_step)
        shown = ", ".join(f"{SHOWN[key]} {float(value):.3f}" for key, value in values.items())
        step = f"step {state.global_step} of {state.max_steps}"
        if values:
            print(f"{self.stage}: {step}, {shown}, {left:.0f} s left", file=sys.stderr, flush=True)


SHOWN = {
    "loss": "loss",
    "eval_loss": "held-out loss",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "logps/chosen": "log-probability of chosen",
}


def curve(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """The trainer's log entries of training steps, without wall-clock values."""
    return [
        {key: round(float(entry[key]), 6) for key in sorted(entry, key=order) if is_lasting(key)}
        for entry in history
        if "loss" in entry
    ]


def order(key: str) -> tuple[bool, str]:
    """step first, then by name: a resumed trainer has its history from a file, which sorts it."""
    return key != "step", key


def is_lasting(key: str) -> bool:
    return not any(word in key for word in WALL_CLOCK)


def write_csv(rows: list[dict[str, float]], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else ["step"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
