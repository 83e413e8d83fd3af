"""One run at a time in this folder: a second one waits, and what a killed one left in Prefect's history is put right.

The kernel gives the lock back however its holder ends. The leashes of a run's stages hold it too, so that the next run
starts when the last stage of a killed one is gone.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed, Running

import notice

LOCK = Path(".work/run.lock")
WAIT_S = 1.0


class Abandoned(Exception):
    """The waiting was cut short: the run was cancelled."""


def opened() -> IO[str]:
    LOCK.parent.mkdir(exist_ok=True)
    return LOCK.open("a+")


@contextmanager
def alone(run: UUID, wait: Callable[[float], bool], lock: IO[str] | None = None) -> Iterator[IO[str]]:
    """A block that no other run in this folder is in; gives the lock's file, to be passed on to what the run starts.

    run: written into the file, for the next to find if this one is killed. wait: waits so many seconds and says whether
    to go on. lock: the file, opened and perhaps taken before.
    """
    with lock or opened() as file:
        if not taken(file):
            other = holder(file) or "a run that is starting"
            enter(run, Running(name="Waiting", message=f"for {other}, which is in this folder"))
            while not taken(file):
                if not wait(WAIT_S):
                    raise Abandoned
            enter(run, Running())
        bury(holder(file))
        note(file, str(run))
        yield file
        note(file, "")


def taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip()


def note(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def enter(run: UUID, state: Running) -> None:  # type: ignore[valid-type]
    """A state for the UI to show; the run goes on without it when the server is away."""
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.set_flow_run_state(run, state, force=True)


def bury(run: str) -> None:
    """A run that left its name here was killed: its state says so, if this server knows it and thinks it is running."""
    with suppress(ValueError, httpx.HTTPError, ObjectNotFound), get_client(sync_client=True) as client:
        killed = client.read_flow_run(UUID(run))
        if killed.state is not None and not killed.state.is_final():
            end = Crashed(message="killed: its process was gone, and the next run went on from there")
            client.set_flow_run_state(killed.id, end, force=True)
            notice.post(None, killed, end)
