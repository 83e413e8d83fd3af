"""One run at a time in this folder: a second one waits, and a killed one is marked as crashed in Prefect's history.

The lock is flock(2), which the kernel releases however its holder ends. The commands of a run hold it too, so that the
next run starts when the last stage of a killed one is gone.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import httpx
from prefect import State
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed, Running

import webhook

LOCK = Path(".work/run.lock")
WAIT_S = 1.0


class CancelledWhileWaiting(Exception):
    """The run was cancelled before it got the lock."""


@contextmanager
def exclusive(run_id: str, is_cancelled: Callable[[], bool]) -> Iterator[IO[str]]:
    """Hold the lock for the block; yield its file, which holds the run's id for the next run to find after a kill.

    Raises CancelledWhileWaiting.
    """
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("a+") as file:
        if not try_lock(file):
            other = read_id(file) or "a run that is starting"
            set_state(run_id, Running(name="Waiting", message=f"for {other}, which is in this folder"))
            while not try_lock(file):
                time.sleep(WAIT_S)
                if is_cancelled():
                    raise CancelledWhileWaiting
            set_state(run_id, Running())
        mark_crashed(read_id(file))
        write_id(file, run_id)
        yield file
        write_id(file, "")


def try_lock(file: IO[str]) -> bool:
    """Lock the file; return whether that worked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_id(file: IO[str]) -> str:
    """Return the id of the run that holds the lock or was killed while it did, else ""."""
    file.seek(0)
    return file.read().strip()


def write_id(file: IO[str], run_id: str) -> None:
    """Replace the content of the file."""
    file.truncate(0)
    file.write(run_id)
    file.flush()


def set_state(run_id: str, state: State[Any]) -> None:
    """Show this state in the UI; the run goes on without it where the server does not answer."""
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(run_id), state, force=True)


def mark_crashed(run_id: str) -> None:
    """Set a killed run's state to Crashed, if this server knows the run and takes it for running."""
    with suppress(ValueError, httpx.HTTPError, ObjectNotFound), get_client(sync_client=True) as client:
        killed = client.read_flow_run(UUID(run_id))
        if killed.state is not None and not killed.state.is_final():
            crashed: State[Any] = Crashed(message="killed: its process was gone, and the next run went on from there")
            client.set_flow_run_state(killed.id, crashed, force=True)
            webhook.notify(None, killed, crashed)
