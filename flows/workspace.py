"""One run at a time in this folder: a second one waits, and a killed one is marked as crashed in Prefect's history.

The lock is flock(2), which the kernel releases however its holder ends. The commands of a run hold it too, so that the
next run starts when the last stage of a killed one is gone.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple
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


class Holder(NamedTuple):
    """The run that has the lock, or was killed while it had it."""

    id: str
    process: int
    name: str

    def __str__(self) -> str:
        return f"run {self.name} (process {self.process})"


@contextmanager
def exclusive(
    run_id: str, name: str, is_cancelled: Callable[[], bool], log: Callable[[str], None]
) -> Iterator[IO[str]]:
    """Hold the lock for the block; yield its file, which names the run for others to find while it runs or was killed.

    log: is told for whom this run waits. Raises CancelledWhileWaiting.
    """
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("a+") as file:
        if not try_lock(file):
            waiting = f"for {read_holder(file) or 'a run that is starting'}, which is in this folder"
            log(f"waiting {waiting}")
            set_state(run_id, Running(name="Waiting", message=waiting))
            while not try_lock(file):
                time.sleep(WAIT_S)
                if is_cancelled():
                    raise CancelledWhileWaiting
            set_state(run_id, Running())
        if killed := read_holder(file):
            mark_crashed(killed.id)
        write_holder(file, Holder(run_id, os.getpid(), name))
        yield file
        write_holder(file, None)


def dvc_is_at_work() -> bool:
    """Return whether a DVC command holds this folder, as `dvc exp run` does to its end."""
    file = Path(".dvc/tmp/lock")  # DVC locks it with flock(2), too
    if not file.exists():
        return False
    with file.open("a") as stream:
        return not try_lock(stream)


def try_lock(file: IO[str]) -> bool:
    """Lock the file; return whether that worked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_holder(file: IO[str]) -> Holder | None:
    """Return the run that holds the lock or was killed while it did."""
    file.seek(0)
    with suppress(ValueError):  # empty, or half written by a run that was killed
        run_id, process, name = file.read().split(maxsplit=2)
        return Holder(run_id, int(process), name.strip())
    return None


def write_holder(file: IO[str], holder: Holder | None) -> None:
    """Replace the content of the file."""
    file.truncate(0)
    file.write(" ".join(map(str, holder)) if holder else "")
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
