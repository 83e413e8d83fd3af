"""The worker processes of this machine for one task and split: takes programs, yields verdicts as they arrive."""

import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from dartune.programs.canonical import runs_twice
from dartune.programs.verdict import Verdict
from dartune.referee import item_server
from dartune.referee import worker as worker_module
from dartune.referee.frames import FRAME, read_frame, write_all
from dartune.referee.scorer import Scorer
from dartune.referee.worker import REQUEST
from dartune.tasks.task import Task, online_key

QUEUE_LENGTH = 2  # requests per worker, so that it never waits for this process
PIPE_BYTES = 60_000  # less than a pipe holds, so that writing the second request never blocks
MAX_DEATHS = 2  # of a program's process or its worker, before the program is held responsible
SOCKETS = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)  # control and items, see item_server.py
START_TRIES = 3  # for a worker that is killed while it starts


@dataclass(frozen=True)
class Job:
    """A program to run. On a second run, first_verdict and first_worker are those of the first run.

    Another worker takes the second run, if there is one: on the same, a decision that depends on memory addresses might
    come out the same again. first_worker is None where there is only one.
    """

    number: int
    program: str
    runs_twice: bool
    first_verdict: Verdict | None = None
    first_worker: "Worker | None" = None
    n_deaths: int = 0


class WorkerPool:
    """Worker processes that live as long as the block of this context manager.

    split: the instances to judge on. n_workers: None for one worker pinned to each core that this process may use.
    """

    def __init__(self, task: Task, split: str, n_workers: int | None = None) -> None:
        self._task, self._instances = task, task.instances(split)
        # Pinned, since a child that starts on the core where its worker has just run takes a tenth less time.
        cores = [None] * n_workers if n_workers else usable_cores()
        self._workers = [Worker(task, split, self._instances, core) for core in cores]

    def __enter__(self) -> "WorkerPool":
        with ExitStack() as stack:  # stops the workers if one of them cannot start
            for worker in self._workers:
                worker.start()
                stack.callback(worker.stop)
            for worker in self._workers:
                worker.wait_until_ready()
            self._stack = stack.pop_all()
        self._scorer = Scorer(self._task, self._instances, self.missing_layers)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    @property
    def missing_layers(self) -> list[str]:
        """The layers of the sandbox that this machine does not offer."""
        return self._workers[0].missing_layers

    def judge(
        self, programs: Iterable[tuple[str, str]], timeout_s: float, memory_mib: int
    ) -> Iterator[tuple[int, Verdict]]:
        """Yield (number, verdict) of each (program, hash of its normal form), in the order in which they finish.

        timeout_s: CPU seconds per program. memory_mib: what a program may allocate. Raises RuntimeError where a worker
        that died cannot be restarted.
        """
        jobs = deque(Job(i, program, runs_twice(program, key)) for i, (program, key) in enumerate(programs))
        while jobs or any(worker.jobs for worker in self._workers):
            for worker in self._workers:
                worker.send_jobs(jobs, timeout_s, memory_mib)
            busy = [worker for worker in self._workers if worker.jobs]
            for worker in select.select(busy, [], [])[0]:  # those that have a result or have died
                result = worker.read_result()
                job = worker.jobs.popleft()
                if result is None:
                    yield from self._restart_worker(worker, job, jobs)
                    continue
                if was_killed(*result) and job.n_deaths + 1 < MAX_DEATHS:
                    jobs.appendleft(replace(job, n_deaths=job.n_deaths + 1))
                    continue
                verdict = self._scorer.verdict(*result, timeout_s)
                if job.runs_twice and verdict.status == "ok" and job.first_verdict is None:
                    first_worker = worker if len(self._workers) > 1 else None
                    jobs.appendleft(replace(job, first_verdict=verdict, first_worker=first_worker))
                else:
                    yield job.number, combined(job.first_verdict, verdict)

    def _restart_worker(self, worker: "Worker", job: Job, jobs: deque[Job]) -> Iterator[tuple[int, Verdict]]:
        """Restart a dead worker and queue its jobs again; yield a crash if its first job has killed two workers."""
        jobs.extendleft(worker.jobs)
        worker.jobs.clear()
        worker.stop()
        worker.start()
        worker.wait_until_ready()
        if job.n_deaths + 1 < MAX_DEATHS:
            jobs.appendleft(replace(job, n_deaths=job.n_deaths + 1))
        else:
            missing = ", ".join(self.missing_layers)
            yield job.number, Verdict("crash", "its worker died twice while it ran", missing_layers=missing)


class Worker:
    """A worker process, its pipes, and the jobs that it has not answered yet.

    An online task's has a process beside it that has the items; both start and end together.
    """

    def __init__(self, task: Task, split: str, instances: list[dict[str, Any]], core: int | None) -> None:
        self._folder, self._core = task.folder, core
        key = online_key(task.rollout)
        warm_up = task.instances("validation" if split == "train" else "train")[:1] if key else None
        shown = [instance | {key: len(instance[key])} for instance in instances] if key else instances
        self._instances = pickle.dumps((shown, warm_up))
        self._items = pickle.dumps([instance[key] for instance in instances]) if key else None
        self.missing_layers: list[str] = []
        self.jobs: deque[Job] = deque()

    def start(self) -> None:
        """Start the process and send it the instances."""
        with ExitStack() as stack:
            pairs = [stack.enter_context(both_ends(kind)) for kind in SOCKETS] if self._items else []
            mine, others = ([pair[end].fileno() for pair in pairs] for end in (0, 1))
            self._process = self._started([worker_module.__file__, str(self._folder)], mine)
            self._item_server = self._started([item_server.__file__], others) if self._items else None
        written(self._process, FRAME.pack(len(self._instances)) + self._instances)
        if self._item_server and self._items:
            written(self._item_server, FRAME.pack(len(self._items)) + self._items)

    def _started(self, command: list[str], sockets: list[int]) -> subprocess.Popen[bytes]:
        """Return a Python process, on this worker's core."""
        with tempfile.TemporaryDirectory(suffix=".dartune") as folder:  # nothing can be created in a removed folder
            process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-B", *command, str(os.getpid()), *map(str, sockets)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                cwd=folder,
                env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
                pass_fds=sockets,
            )
        if self._core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {self._core})
        return process

    def fileno(self) -> int:
        """Return the descriptor of its answers, for select."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def wait_until_ready(self) -> None:
        """Wait until the worker is ready and has reported its missing layers. RuntimeError if it keeps ending."""
        for _ in range(START_TRIES):
            if (body := read_frame(self.fileno())) is not None:
                self.missing_layers = json.loads(body)
                return
            self.stop()  # somebody killed it
            self.start()
        raise RuntimeError("a worker of the referee ends while it starts; its error message stands above")

    def send_jobs(self, jobs: deque[Job], timeout_s: float, memory_mib: int) -> None:
        """Move jobs from the queue to this worker until it has QUEUE_LENGTH of them."""
        while jobs and len(self.jobs) < QUEUE_LENGTH:
            job = next((job for job in jobs if job.first_worker is not self), None)
            if job is None or (self.jobs and 4 * sum(len(j.program) for j in (*self.jobs, job)) > PIPE_BYTES):
                return
            jobs.remove(job)
            self.jobs.append(job)
            program = job.program.encode("utf-8", "surrogatepass")
            request = REQUEST.pack(len(program), timeout_s, memory_mib, job.first_verdict is not None)
            written(self._process, request + program)

    def read_result(self) -> tuple[dict[str, Any], bytes] | None:
        """Return the report on the first of its jobs and the program's answer; None where the worker has died."""
        report, answer = read_frame(self.fileno()), read_frame(self.fileno())
        return None if report is None or answer is None else (json.loads(report), answer)

    def stop(self) -> None:
        """Kill the process, and the one with the items, and wait for their end."""
        for process in filter(None, (self._process, self._item_server)):
            process.kill()
            process.communicate()


def written(process: subprocess.Popen[bytes], body: bytes) -> None:
    """Write to the process's standard input."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has died, which read_result() reports
        write_all(process.stdin.fileno(), body)


@contextmanager
def both_ends(kind: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A pair of connected sockets, closed after the block: processes that were started in it have their own."""
    with ExitStack() as stack:
        pair = socket.socketpair(socket.AF_UNIX, kind)
        for end in pair:
            stack.enter_context(end)
        yield pair


def was_killed(report: dict[str, Any], answer: bytes) -> bool:
    """Return whether the program's process may have been killed from outside: by a person, or for lack of memory."""
    return not answer and not report["is_late"] and report["signal"] == signal.SIGKILL


def combined(first: Verdict | None, second: Verdict) -> Verdict:
    """Return the verdict on two runs: the first run's, or nondeterministic if the second run's decisions differ."""
    if first is None or (second.status, second.behaviour) == ("ok", first.behaviour):
        return first or second
    reason = "other decisions on a second run" if second.status == "ok" else f"on a second run: {second.status}"
    return Verdict("nondeterministic", reason, cpu_s=first.cpu_s, missing_layers=first.missing_layers)


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
