"""Runs a command, and kills all that it started when stdin closes: `leash.py GRACE_S COMMAND ...`.

The flow holds the other end of stdin. The kernel closes it however the flow ends, kill -9 included, and whichever of
its threads had started the command; parent-death signals know neither threads nor grandchildren.
"""

import ctypes
import select
import signal
import subprocess
import sys
from contextlib import suppress

import psutil

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """A descendant whose parent died becomes our child, even from a session of its own: none can slip away."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


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
    adopt_orphans()
    command = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
    while command.poll() is None:
        if select.select([sys.stdin], [], [], 0.05)[0]:  # nothing is ever written: readable means closed
            break
    kill_all(command, float(sys.argv[1]))  # also after a good end: what a stage leaves running holds its pipes open
    return command.wait()


if __name__ == "__main__":
    sys.exit(main())
