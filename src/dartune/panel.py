"""The panel: this machine's workers for one task and split. Programs in, verdicts out, as they come."""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from dartune import worker
from dartune.program import runs_twice
from dartune.task import Task
from dartune.verdict import Verdict
from dartune.worker import FRAME, pack

AHEAD = 2  # requests that a worker holds, so that it never waits for us
PIPE_BYTES = 60_000  # below what a pipe holds: writing the second request never blocks
MAX_DEATHS = 2  # of workers under one program, before it is taken for the cause


@dataclass(frozen=True)
class Job:
    """A program to run. first: the verdict of its first run, when this is the second; by: the worker of that."""

    number: int
    program: str
    is_checked: bool
    first: Verdict | None = None
    by: int = -1
    deaths: int = 0


class Panel:
    """n_workers warm processes. A context manager: they live inside the block."""

    def __init__(self, task: Task, split: str, n_workers: int | None = None) -> None:
        instances = pack(task.instances(split))
        self._workers = [Worker(task.name, instances) for _ in range(n_workers or n_cores())]

    def __enter__(self) -> "Panel":
        for each in self._workers:
            each.start()
        for each in self._workers:
            each.greet()
        return self

    def __exit__(self, *_: Any) -> None:
        for each in self._workers:
            each.stop()

    @property
    def missing(self) -> list[str]:
        """Layers of the sandbox that this machine does not offer."""
        return self._workers[0].missing

    def judge(
        self, programs: Iterable[tuple[str, str]], timeout_s: float, memory_mib: int
    ) -> Iterator[tuple[int, Verdict]]:
        """(number, verdict) of each (program, key of program.py). Second runs go to another worker if there is one."""
        jobs = deque(Job(i, program, runs_twice(program, key)) for i, (program, key) in enumerate(programs))
        limits = {"timeout_s": timeout_s, "memory_mib": memory_mib}
        while jobs or any(each.jobs for each in self._workers):
            for number, each in enumerate(self._workers):
                each.fill(jobs, number if len(self._workers) > 1 else -1, limits)
            for number, each in self._ready():
                verdict = each.take()
                job = each.jobs.popleft()
                if verdict is None:
                    yield from self._bury(each, job, jobs)
                elif job.is_checked and verdict.status == "ok" and job.first is None:
                    jobs.appendleft(replace(job, first=verdict, by=number))
                else:
                    yield job.number, agreed(job.first, verdict)

    def _ready(self) -> list[tuple[int, "Worker"]]:
        busy = {each.answers: (number, each) for number, each in enumerate(self._workers) if each.jobs}
        return [busy[descriptor] for descriptor in select.select(list(busy), [], [])[0]]

    def _bury(self, dead: "Worker", job: Job, jobs: deque[Job]) -> Iterator[tuple[int, Verdict]]:
        """Start a dead worker anew and run its programs again, unless the one that it ran has killed two."""
        jobs.extendleft(dead.jobs)
        dead.jobs.clear()
        dead.stop()
        dead.start()
        dead.greet()
        if job.deaths + 1 < MAX_DEATHS:
            jobs.appendleft(replace(job, deaths=job.deaths + 1))
        else:
            yield job.number, Verdict("crash", "the worker died with it, twice")


class Worker:
    """One worker process, its pipes, and the jobs that it has not answered yet."""

    def __init__(self, task: str, instances: bytes) -> None:
        self._task, self._instances = task, instances
        self._folder = tempfile.TemporaryDirectory(prefix="dartune-")
        self.missing: list[str] = []
        self.jobs: deque[Job] = deque()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-B", worker.__file__, self._task, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=self._folder.name,
            env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
        )
        assert self._process.stdout is not None
        self.answers = self._process.stdout.fileno()
        self._send(self._instances)

    def greet(self, tries: int = 3) -> None:
        """Wait until the worker is warm and has told which layers are missing."""
        body = self._receive()
        if body is None and tries > 1:  # somebody killed it
            self.stop()
            self.start()
            return self.greet(tries - 1)
        if body is None:
            raise RuntimeError("a worker of the referee ends while it starts; what it said stands above")
        self.missing = json.loads(body)

    def fill(self, jobs: deque[Job], number: int, limits: dict[str, Any]) -> None:
        """Send what comes next. A second run is left to the others: what an address decided would happen again here."""
        while jobs and len(self.jobs) < AHEAD:
            job = next((job for job in jobs if job.by != number or number < 0), None)
            held = sum(len(other.program) for other in self.jobs)
            if job is None or (self.jobs and 6 * (held + len(job.program)) > PIPE_BYTES):  # JSON's \uXXXX
                return
            jobs.remove(job)
            self.jobs.append(job)
            self._send(json.dumps({"program": job.program, "run": int(job.first is not None), **limits}).encode())

    def take(self) -> Verdict | None:
        """The verdict on the first of the jobs; None when the worker has died."""
        body = self._receive()
        if body is None:
            return None
        content = json.loads(body)
        return Verdict(**{**content, "costs": content["costs"] and tuple(content["costs"])})

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, body: bytes) -> None:
        assert self._process.stdin is not None
        rest = memoryview(FRAME.pack(len(body)) + body)
        try:
            while rest:
                rest = rest[self._process.stdin.write(rest) :]
        except BrokenPipeError:  # it has died, which take() finds
            pass

    def _receive(self) -> bytes | None:
        head = self._read(FRAME.size)
        return self._read(FRAME.unpack(head)[0]) if head else None

    def _read(self, n_bytes: int) -> bytes | None:
        body = b""
        while len(body) < n_bytes:
            piece = os.read(self.answers, n_bytes - len(body))
            if not piece:
                return None
            body += piece
        return body


def agreed(first: Verdict | None, second: Verdict) -> Verdict:
    """The verdict of two runs: the first, unless the second came to other decisions."""
    if first is None or (second.status, second.behaviour) == ("ok", first.behaviour):
        return first or second
    reason = "other decisions on a second run" if second.status == "ok" else f"on a second run: {second.status}"
    return Verdict("nondeterministic", reason, cpu_s=first.cpu_s, missing_layers=first.missing_layers)


def n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
