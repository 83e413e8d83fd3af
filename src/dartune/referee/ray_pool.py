"""The panel on a Ray cluster: the same workers and the same verdicts, on every core that Ray offers.

Ray is an extra (requirements-ray.in). Its actors hold no model: each starts a worker of its own, in a sandbox, on its
node. An actor or node that dies is replaced by Ray, and what it had is judged again.
"""

import os
import socket
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from dartune.errors import UserError
from dartune.programs.verdict import Verdict
from dartune.referee.worker_pool import WorkerPool
from dartune.tasks.task import Task

CHUNK = 16  # programs per call: long enough to hide a call's cost, short enough to share the end evenly
TRIES = 3  # of a chunk, when its actor dies; of a connection, when the head drops it


class RayWorker:
    """One actor: a panel of one worker."""

    def __init__(self, task: str, split: str) -> None:
        self._panel = WorkerPool(Task(task), split, n_workers=1).__enter__()

    def missing(self) -> list[str]:
        return self._panel.missing

    def judge(self, programs: list[tuple[str, str]], timeout_s: float, memory_mib: int) -> list[tuple[int, Verdict]]:
        return list(self._panel.judge(programs, timeout_s, memory_mib))


class RayPool:
    """A WorkerPool whose workers are spread over a cluster. address: "local" for one on this machine, else Ray's own."""

    def __init__(self, task: Task, split: str, address: str) -> None:
        self._task, self._split, self._address = task, split, address

    def __enter__(self) -> "RayPool":
        ray = self._ray = load_ray()
        connect(ray, self._address)
        seat = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=TRIES)(RayWorker)
        n_seats = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._seats = [seat.remote(self._task.name, self._split) for _ in range(n_seats)]
        layers = ray.get([each.missing.remote() for each in self._seats])
        self.missing = sorted({layer for missing in layers for layer in missing})
        return self

    def __exit__(self, *_: Any) -> None:
        for seat in self._seats:
            self._ray.kill(seat)
        self._ray.shutdown()

    def judge(
        self, programs: Iterable[tuple[str, str]], timeout_s: float, memory_mib: int
    ) -> Iterator[tuple[int, Verdict]]:
        """(number, verdict) of each (program, key), as they come."""
        calls = chunks(list(programs))
        waiting: dict[Any, tuple[Any, int]] = {}  # call -> seat, number of its first program

        def give(seat: Any) -> None:
            for first, chunk in islice(calls, 1):
                waiting[seat.judge.remote(chunk, timeout_s, memory_mib)] = (seat, first)

        for seat in self._seats * 2:  # one chunk ahead, so that no seat waits for this process
            give(seat)
        while waiting:
            for done in self._ray.wait(list(waiting))[0]:
                seat, first = waiting.pop(done)
                for number, verdict in self._ray.get(done):
                    yield first + number, verdict
                give(seat)


def chunks(programs: list[tuple[str, str]]) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    for first in range(0, len(programs), CHUNK):
        yield first, programs[first : first + CHUNK]


def load_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("cluster: Ray is not installed; pip install -r requirements-ray.in") from error
    return ray


def connect(ray: Any, address: str) -> None:
    """Join the cluster, or start one here. Its dashboard stays off."""
    if address != "local":
        knock(address)
    # Said to be local: without an address Ray joins a cluster that runs here, or waits for one that ran here.
    here = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    where = here if address == "local" else {"address": address}
    for n_left in reversed(range(TRIES)):
        try:
            ray.init(**where, log_to_driver=False, logging_level="error", ignore_reinit_error=True)
            return
        # The head of a cluster forks a server for each client, beside threads of gRPC: some die at that.
        except ConnectionAbortedError as error:
            refusal = f"cluster: {address!r} does not let us in: {str(error).splitlines()[-1]}"  # its traceback's end
            if not n_left:
                raise UserError(refusal) from error
            print(f"{refusal}; trying again", file=sys.stderr, flush=True)
        except (ConnectionError, RuntimeError) as error:
            raise UserError(f"cluster: {address!r} does not let us in: {error}") from error


def knock(address: str) -> None:
    """A UserError unless something listens there: Ray itself would try for five minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"cluster: no Ray cluster answers at {address!r} ({error}); expected ray://HOST:PORT"
        ) from error
