"""Workers on a Ray cluster: the same sandbox and the same verdicts, one worker per core of the cluster.

Ray is optional (requirements-ray.in). Each actor runs one worker on its node. Ray restarts actors that die, and retries
their calls.
"""

import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dartune.errors import UserError
from dartune.programs.verdict import Verdict
from dartune.referee.worker_pool import WorkerPool
from dartune.tasks.task import Task, task_in

CHUNK = 16  # programs per call: enough to hide the cost of a call, few enough to balance the load at the end
TRIES = 3  # for a chunk whose actor dies


class RayWorker:
    """A Ray actor with a pool of one worker."""

    def __init__(self, folder: Path, split: str) -> None:
        self._pool = WorkerPool(task_in(folder), split, n_workers=1).__enter__()

    def missing_layers(self) -> list[str]:
        """Return the layers of the sandbox that the actor's node does not offer."""
        return self._pool.missing_layers

    def judge(
        self, programs: list[tuple[str, str]], first: int, timeout_s: float, memory_mib: int
    ) -> list[tuple[int, Verdict]]:
        """Return what WorkerPool.judge yields, numbered from `first` on."""
        return [(first + i, verdict) for i, verdict in self._pool.judge(programs, timeout_s, memory_mib)]


class RayPool:
    """A WorkerPool on a cluster. address: ray://HOST:PORT, or "local" for a cluster on this machine only."""

    def __init__(self, task: Task, split: str, address: str) -> None:
        self._task, self._split, self._address = task, split, address

    def __enter__(self) -> "RayPool":
        ray = self._ray = connect(self._address)
        actor = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=TRIES)(RayWorker)
        n_workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._workers = [actor.remote(self._task.folder, self._split) for _ in range(n_workers)]
        layers = ray.get([worker.missing_layers.remote() for worker in self._workers])
        self.missing_layers = sorted({layer for missing in layers for layer in missing})
        return self

    def __exit__(self, *_: Any) -> None:
        for worker in self._workers:
            self._ray.kill(worker)
        self._ray.shutdown()

    def judge(
        self, programs: Iterable[tuple[str, str]], timeout_s: float, memory_mib: int
    ) -> Iterator[tuple[int, Verdict]]:
        """Yield (number, verdict) of each (program, key) as they come; see WorkerPool.judge."""
        from ray.util import ActorPool

        programs = list(programs)

        def submit_chunk(worker: Any, first: int) -> Any:
            """Have the worker judge the chunk that begins with this program."""
            return worker.judge.remote(programs[first : first + CHUNK], first, timeout_s, memory_mib)

        pool = ActorPool(self._workers * 2)  # two chunks each, so that no worker waits for this process
        for verdicts in pool.map_unordered(submit_chunk, range(0, len(programs), CHUNK)):
            yield from verdicts


def connect(address: str) -> Any:
    """Join the cluster, or start one on this machine, and return the module ray. Raises UserError where that fails."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("cluster: Ray is not installed; pip install -r requirements-ray.in") from error
    if address == "local":  # explicitly: without an address Ray joins a cluster that runs on this machine
        where = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        check_reachable(address)
        where = {"address": address}
    try:
        ray.init(**where, log_to_driver=False, logging_level="error", ignore_reinit_error=True)
    except (ConnectionError, RuntimeError) as error:
        # A head that drops a client, which docs/scale.md is about, sends a traceback: its last line says why.
        reason = str(error).splitlines()[-1] if isinstance(error, ConnectionAbortedError) else error
        raise UserError(f"cluster: {address!r} does not let us in: {reason}; see docs/scale.md") from error
    return ray


def check_address(address: str) -> None:
    """Raise UserError unless this can be the address of a cluster. Nothing is asked there."""
    if address != "local" and not address.rpartition(":")[2].isdigit():
        raise UserError(f"score.cluster is {address!r}; expected null, local or ray://HOST:PORT")


def check_reachable(address: str) -> None:
    """Raise UserError unless something listens at the address: Ray itself would try for five minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        message = f"cluster: no Ray cluster answers at {address!r} ({error}); expected ray://HOST:PORT"
        raise UserError(message) from error
