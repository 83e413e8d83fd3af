"""The panel: this machine's workers for one task and split. Programs in, verdicts out, as they come."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dartune.files.scratch import remove_leftovers, unique_name
from dartune.programs.canonical import runs_twice
from dartune.programs.verdict import Verdict
from dartune.referee import worker
from dartune.referee.scorer import Scorer
from dartune.referee.worker import FRAME, REQUEST, pack, read_frame, write_all
from dartune.tasks.task import Task

AHEAD = 2  # requests that a worker holds, so that it never waits for us
PIPE_BYTES = 60_000  # below what a pipe holds: writing the second request never blocks
MAX_DEATHS = 2  # under one program, its own or of workers, before it is taken for the cause


@dataclass(frozen=True)
class Job:
    """A program to run. first: the verdict of its first run, when this is the second; by: the worker of that."""

    number: int
    program: str
    is_checked: bool
    first: Verdict | None = None
    by: int = -1
    deaths: int = 0


class WorkerPool:
    """n_workers warm processes, by default one a core. A context manager: they live inside the block."""

    def __init__(self, task: Task, split: str, n_workers: int | None = None) -> None:
        self._task, self._instances = task, task.instances(split)
        # One worker a core, kept there: a child starts where its worker has just been, which saves a tenth of the time.
        places = [None] * n_workers if n_workers else cores()
        self._workers = [Worker(task.name, pack(self._instances), core) for core in places]

    def __enter__(self) -> "WorkerPool":
        with ExitStack() as stack:  # a worker that cannot start must not leave the others behind
            for each in self._workers:
                each.start()
                stack.callback(each.stop)
            for each in self._workers:
                each.greet()
            self._stack = stack.pop_all()
        self._settlement = Scorer(self._task, self._instances, self.missing)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    @property
    def missing(self) -> list[str]:
        """Layers of the sandbox that this machine does not offer."""
        return self._workers[0].missing

    def judge(
        self, programs: Iterable[tuple[str, str]], timeout_s: float, memory_mib: int
    ) -> Iterator[tuple[int, Verdict]]:
        """(number, verdict) of each (program, key of program.py). Second runs go to another worker if there is one."""
        jobs = deque(Job(i, program, runs_twice(program, key)) for i, (program, key) in enumerate(programs))
        while jobs or any(each.jobs for each in self._workers):
            for number, each in enumerate(self._workers):
                each.fill(jobs, number if len(self._workers) > 1 else -1, timeout_s, memory_mib)
            for number, each in self._ready():
                taken = each.take()
                job = each.jobs.popleft()
                if taken is None:
                    yield from self._bury(each, job, jobs)
                    continue
                if was_killed(*taken) and job.deaths + 1 < MAX_DEATHS:
                    jobs.appendleft(replace(job, deaths=job.deaths + 1))
                    continue
                verdict = self._settlement.verdict(*taken, timeout_s)
                if job.is_checked and verdict.status == "ok" and job.first is None:
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
            yield job.number, Verdict("crash", "the worker died with it, twice", missing_layers=", ".join(self.missing))


class Worker:
    """One worker process, its pipes, and the jobs that it has not answered yet."""

    def __init__(self, task: str, instances: bytes, core: int | None) -> None:
        self._task, self._instances, self._core = task, instances, core
        self.missing: list[str] = []
        self.jobs: deque[Job] = deque()

    def start(self) -> None:
        with vanishing_folder() as folder:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-B", worker.__file__, self._task, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                cwd=folder,
                env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            )
        if self._core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, {self._core})
        assert self._process.stdout is not None
        self.answers = self._process.stdout.fileno()
        self._send(FRAME.pack(len(self._instances)) + self._instances)

    def greet(self, tries: int = 3) -> None:
        """Wait until the worker is warm and has told which layers are missing."""
        body = read_frame(self.answers)
        if body is None and tries > 1:  # somebody killed it
            self.stop()
            self.start()
            return self.greet(tries - 1)
        if body is None:
            raise RuntimeError("a worker of the referee ends while it starts; what it said stands above")
        self.missing = json.loads(body)

    def fill(self, jobs: deque[Job], number: int, timeout_s: float, memory_mib: int) -> None:
        """Send what comes next. A second run is left to the others: what an address decided would happen again here."""
        while jobs and len(self.jobs) < AHEAD:
            job = next((job for job in jobs if job.by != number or number < 0), None)
            if job is None or (self.jobs and 4 * sum(len(each.program) for each in (*self.jobs, job)) > PIPE_BYTES):
                return
            jobs.remove(job)
            self.jobs.append(job)
            program = job.program.encode("utf-8", "surrogatepass")
            self._send(REQUEST.pack(len(program), timeout_s, memory_mib, job.first is not None) + program)

    def take(self) -> tuple[dict[str, Any], bytes] | None:
        """The worker's report on the first of the jobs and the child's answer; None when the worker has died."""
        report, answer = read_frame(self.answers), read_frame(self.answers)
        return None if report is None or answer is None else (json.loads(report), answer)

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, body: bytes) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has died, which take() finds
            write_all(self._process.stdin.fileno(), body)


@contextmanager
def vanishing_folder() -> Iterator[Path]:
    """An empty folder to start a process in, which is gone once it runs: nothing can be made in it any more.

    Whoever is killed in between leaves it behind, and the next one here removes it.
    """
    place = Path(tempfile.gettempdir())
    remove_leftovers(place.glob("*-*-*.dartune"))
    folder = place / f"{unique_name()}.dartune"
    folder.mkdir(0o700)
    try:
        yield folder
    finally:
        folder.rmdir()


def was_killed(report: dict[str, Any], answer: bytes) -> bool:
    """Whether the program's process may have been killed by somebody else: the kernel, short of memory, or a person."""
    return not answer and not report["is_late"] and report["signal"] == signal.SIGKILL


def agreed(first: Verdict | None, second: Verdict) -> Verdict:
    """The verdict of two runs: the first, unless the second came to other decisions."""
    if first is None or (second.status, second.behaviour) == ("ok", first.behaviour):
        return first or second
    reason = "other decisions on a second run" if second.status == "ok" else f"on a second run: {second.status}"
    return Verdict("nondeterministic", reason, cpu_s=first.cpu_s, missing_layers=first.missing_layers)


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
