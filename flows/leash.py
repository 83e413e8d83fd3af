"""A command that ends, with all that it started, when we let go of it or are gone ourselves.

This file run as a script stands between us and the command: it holds the reading end of a pipe and kills when the pipe
closes. The kernel closes it however we end, kill -9 included, and whichever thread of ours had started the command;
parent-death signals know neither threads nor grandchildren. Where the script itself is killed, one ends the command,
which then has to end what it started: whole.py does.
"""

import ctypes
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class Leash:
    """The command runs in a session of its own: a Ctrl-C in the terminal does not reach it."""

    def __init__(self, command: list[str], grace_s: float, **options: Any) -> None:
        script = [sys.executable, str(Path(__file__).resolve()), str(grace_s)]
        options |= {"stdin": subprocess.PIPE, "start_new_session": True}
        self.process = subprocess.Popen(script + command, **options)

    def let_go(self) -> None:
        """Returns at once; the command gets `grace_s` to end by itself."""
        assert self.process.stdin
        self.process.stdin.close()

    def end(self) -> int:
        self.let_go()
        return self.process.wait()


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def adopt_orphans() -> None:
    """A descendant whose parent died becomes our child, even from a session of its own: none can slip away."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def descendants() -> list[psutil.Process]:
    return list(psutil.Process().children(recursive=True))


def kill_all(command: subprocess.Popen[bytes], grace_s: float) -> None:
    """The command itself gets SIGINT: DVC then waits for its stage to end and puts its locks away."""
    for process in descendants():
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT if process.pid == command.pid else signal.SIGTERM)
    psutil.wait_procs(descendants(), timeout=grace_s)
    while left := descendants():
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)


def main() -> int:
    """The command's exit status; 1 if it was killed."""
    adopt_orphans()
    command = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, preexec_fn=end_with_parent)
    while (status := command.poll()) is None:
        if select.select([sys.stdin], [], [], 0.05)[0]:  # nothing is ever written: readable means closed
            break
    kill_all(command, float(sys.argv[1]))  # also after a good end: who is left would hold the output open
    return 1 if status is None else status


if __name__ == "__main__":
    sys.exit(main())
