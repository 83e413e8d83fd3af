"""Commands that end, with all that they started, when we end them or are gone ourselves.

Run as a script, this file is the supervisor: a process between ours and the command. It holds the reading end of a pipe
whose other end only we have, and kills the command's process tree when the pipe closes. The kernel closes it however we
end, kill -9 included. Parent-death signals alone would not do: they are sent when the thread that started the child
ends, and they do not reach grandchildren. Where the supervisor itself is killed, such a signal ends the command, which
then has to end its own children: atomic_dvc.py does.
"""

import ctypes
import math
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

TIMED_OUT = 124  # as timeout(1)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


class Supervised:
    """A command in a session of its own: a Ctrl-C in the terminal does not reach it."""

    def __init__(self, command: list[str], grace_s: float, timeout_s: float | None = None, **options: Any) -> None:
        """Start the command. grace_s: from asking its processes to end until they are killed. options: of Popen.

        timeout_s: after which the command is ended, with status TIMED_OUT.
        """
        script = [sys.executable, str(Path(__file__).resolve()), str(grace_s), str(timeout_s or math.inf)]
        options |= {"stdin": subprocess.PIPE, "start_new_session": True}
        self.process: subprocess.Popen[Any] = subprocess.Popen(script + command, **options)  # the supervisor

    def terminate(self) -> None:
        """Have the command ended; returns at once."""
        assert self.process.stdin
        self.process.stdin.close()

    def end(self) -> int:
        """Have the command ended, unless it has, and wait until its whole tree is gone; return its exit status."""
        self.terminate()
        return self.process.wait()

    def is_alive(self) -> bool:
        """Return whether the command, or a process that it started, still runs."""
        return self.process.poll() is None


def prctl(option: int, value: int) -> None:
    """Call prctl(2), on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def adopt_orphans() -> None:
    """Make descendants whose parent dies our children, even those in sessions of their own, so that none is lost."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Have this process get SIGTERM when its parent ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def kill_descendants(grace_s: float, interrupted: int | None = None) -> None:
    """Send SIGTERM to all descendants, after `grace_s` SIGKILL, until none is left. interrupted: gets SIGINT first."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT if process.pid == interrupted else signal.SIGTERM)
    psutil.wait_procs(psutil.Process().children(recursive=True), timeout=grace_s)
    while left := psutil.Process().children(recursive=True):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)


def main() -> int:
    """Return the command's exit status, TIMED_OUT if it took too long, else 1 if it was ended."""
    adopt_orphans()
    grace_s, timeout_s = map(float, sys.argv[1:3])
    deadline = time.monotonic() + timeout_s
    command = subprocess.Popen(sys.argv[3:], stdin=subprocess.DEVNULL, preexec_fn=end_with_parent)
    while (status := command.poll()) is None:
        if time.monotonic() > deadline:
            status = TIMED_OUT
            break
        if select.select([sys.stdin], [], [], 0.05)[0]:  # nothing is ever written: readable means closed
            status = 1
            break
    # SIGINT to the command: DVC then waits for its stage to end and releases its locks. Also after a good end: a child
    # that is left would hold the output open.
    kill_descendants(grace_s, interrupted=command.pid)
    return status


if __name__ == "__main__":
    sys.exit(main())
