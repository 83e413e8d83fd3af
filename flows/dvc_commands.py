"""The DVC commands of a run: none outlives the run, and all are ended at once when it is stopped."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from dartune import params
from dartune.models.host import STAGES
from supervisor import Supervised

SCRIPT = str(Path(__file__).with_name("atomic_dvc.py"))
GRACE_S = 2.0  # from asking a process to end until it is killed
# Lines that DVC prints; all others are the stage's.
DVC_LINE = re.compile(
    r"$|> |Running stage '|Stage '|Updating lock file|Generating lock file|ERROR: failed to reproduce"
    r"|To track the changes|\tgit add |To enable auto staging|\tdvc config |Use `dvc push`"
    r"|Data and pipelines are up to date"
)


class Finished(NamedTuple):
    """How a command ended, when every process that it started is gone."""

    status: int  # TIMED_OUT if it took too long
    lines: list[str]  # what it printed

    def failure(self) -> str:
        """Return the last line of the stage, unless only DVC knows the reason, a missing output for one; or ""."""
        of_stage = [line for line in self.lines if not DVC_LINE.match(line)]
        of_dvc = [line for line in self.lines if line.startswith("ERROR: ") and "failed to run: " not in line]
        return (of_dvc or of_stage or [""])[-1]


class DvcCommands:
    """Runs DVC. No command outlives the `with` block. After `stop`, all are being ended and none starts any more.

    Signals are raised in the main thread, while others wait for the commands.
    """

    def __init__(self, lock: IO[str], workers: int) -> None:
        """lock: a file that every command inherits, so that a lock on it lasts as long as the last of them.

        workers: how many stages may run side by side, see n_stages.
        """
        self.lock, self.workers = lock, workers
        self.is_stopped = threading.Event()
        self.starting = threading.Lock()  # a command that is not in `running` when the event is set never starts
        self.running: set[Supervised] = set()

    def __enter__(self) -> "DvcCommands":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for command in [*self.running]:
            command.process.wait()

    def stop(self) -> None:
        """Have all commands ended; returns at once."""
        with self.starting:
            self.is_stopped.set()
            for command in self.running:
                command.terminate()

    def run(self, *words: str, timeout_s: float | None, on_line: Callable[[str], None]) -> Finished:
        """Run `dvc WORDS`, give `on_line` each line that it prints, and return how it ended.

        Returns status 1 without a line where the run is stopped already.
        """
        with self.starting:
            if self.is_stopped.is_set():
                return Finished(1, [])
            command = self.started(words, timeout_s)
            self.running.add(command)
        lines = []
        assert command.process.stdout
        try:
            with command.process.stdout as output:
                for line in output:
                    lines.append(line.rstrip())
                    on_line(lines[-1])
        finally:
            status = command.end()
            with self.starting:
                self.running.discard(command)
        return Finished(status, lines)

    def n_stages(self) -> int:
        """Return how many stages run side by side and share the cores: `workers`, but no more than there are tasks."""
        return max(1, min(self.workers, len(params.read().get("tasks", ()))))

    def started(self, words: tuple[str, ...], timeout_s: float | None) -> Supervised:
        """Start `dvc WORDS`. A stage's command finds the programs of this Python's environment first."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return Supervised(
            [sys.executable, SCRIPT, "--wait-for-lock", *words],
            GRACE_S,
            timeout_s,
            env=os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1", STAGES: str(self.n_stages())},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[self.lock.fileno()],
        )
