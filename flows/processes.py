"""The processes of a run: each on a leash, none outlives the run, all are let go of at once when it is stopped."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from leash import Leash

WHOLE = str(Path(__file__).with_name("whole.py"))  # DVC
GRACE_S = 2.0  # between asking a process to end and killing it
RUNNING: set[Leash] = set()
STOPPED = threading.Event()
STARTING = threading.Lock()  # what is not in RUNNING when STOPPED is set never starts
HELD: list[int] = []  # the workspace's lock: a run's processes hold it too, see workspace.py


@contextmanager
def leashes() -> Iterator[None]:
    """No process outlives this block. Signals are raised in the main thread, while others wait for the processes."""
    STOPPED.clear()
    HELD.clear()
    try:
        yield
    finally:
        stop()


def hold(lock: IO[str]) -> None:
    HELD.append(lock.fileno())


def stop() -> None:
    with STARTING:
        STOPPED.set()
        for leash in list(RUNNING):
            leash.let_go()


def dvc(*words: str) -> Leash | None:
    """A DVC command on its way; None if the run was stopped before. What it says comes on its stdout."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    with STARTING:
        if STOPPED.is_set():
            return None
        leash = Leash(
            [sys.executable, WHOLE, "--wait-for-lock", *words],
            GRACE_S,
            env=os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=HELD,
        )
        RUNNING.add(leash)
        return leash


def outcome(leash: Leash, timeout_s: float | None, say: Callable[[str], None]) -> tuple[int, list[str], bool]:
    """(exit status, lines, whether the time was over), when every process that the command started is gone.

    say: is given each line as it comes.
    """
    with deadline(leash, timeout_s) as over:
        lines = []
        for line in leash.process.stdout or ():
            lines.append(line.rstrip())
            say(lines[-1])
    code = leash.end()
    RUNNING.discard(leash)
    return code, lines, over.is_set()


@contextmanager
def deadline(leash: Leash, timeout_s: float | None) -> Iterator[threading.Event]:
    """Lets go of the process when the time is over; the event says that it did."""
    over = threading.Event()

    def end() -> None:
        over.set()
        leash.let_go()

    timer = threading.Timer(timeout_s or threading.TIMEOUT_MAX, end)
    timer.daemon = True
    timer.start()
    try:
        yield over
    finally:
        timer.cancel()
        leash.let_go()
