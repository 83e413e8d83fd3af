"""The referee: takes programs, returns verdicts. Known ones come from a cache, the others from a pool of workers.

Only decisions leave a program's process (worker.py); they are scored in a process that runs no program (scorer.py).
"""

import hashlib
import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from dartune.errors import UserError
from dartune.files import atomic
from dartune.files.fingerprint import fingerprint
from dartune.files.modules import DOORS, code_fingerprint, judging
from dartune.programs.canonical import MAX_LENGTH, normal_form
from dartune.programs.verdict import Verdict
from dartune.referee.cache import VerdictCache
from dartune.referee.ray_pool import RayPool
from dartune.referee.worker_pool import WorkerPool
from dartune.tasks.task import Task

MIN_TIMEOUT_S = 2.0
MAX_SLOWDOWN, MEMORY_MIB = 1000.0, 512  # of `dartune score`; stages take theirs from params.yaml
TRAIN = "train"  # no search method has this name
RISKS = {  # of a machine that does not offer a layer of the sandbox
    "network": "only seccomp keeps programs from it",
    "landlock": "programs can read files",
    "seccomp": "system calls are not filtered",
}
# Scores hang on it: sum() of floats is compensated from Python 3.12 on, which changes 6 of 126 published programs.
INTERPRETER = f"Python {platform.python_version()}, NumPy {np.__version__}"


def write_referee(
    task: str,
    judges: dict[str, bool],
    output: Path,
    *,
    max_slowdown: PositiveFloat,
    memory_mib: PositiveInt,
    cluster: str | None,
) -> None:
    """Write version.json, and the limits on programs for each search method and for training.

    <method>.json, train.json: {"version", "max_slowdown", "memory_mib"}, or {} for a method that needs no verdicts, so
    that its pool does not depend on the referee. judges: by search method, whether it needs verdicts. The other
    arguments are those of stage score; cluster is not written, since it does not affect verdicts.
    """
    version = {"version": code_version(Task(task))}
    limits = version | {"max_slowdown": max_slowdown, "memory_mib": memory_mib}
    atomic.write_json(output / "version.json", version)
    for name, is_judged in (judges | {TRAIN: True}).items():
        atomic.write_json(output / f"{name}.json", limits if is_judged else {})


class Referee:
    """Judges programs of one task on one split. A context manager: its workers live as long as the block.

    max_slowdown: CPU time that a program may take for all instances together, as a multiple of what the task's template
    takes on this machine (at least MIN_TIMEOUT_S). memory_mib: what a program may allocate. cluster: null for this
    machine's cores, "local" or an address for Ray (ray_pool.py). n_run: programs run so far, not counting the cache.
    """

    def __init__(
        self, task: Task, split: str, *, max_slowdown: float, memory_mib: int, cluster: str | None = None
    ) -> None:
        self.task = task
        self._max_slowdown, self._memory_mib = max_slowdown, memory_mib
        self._pool: WorkerPool | RayPool = WorkerPool(task, split) if cluster is None else RayPool(task, split, cluster)
        # Of everything that affects a verdict besides program and limits.
        self.version = fingerprint([], code=code_version(task), split=split, interpreter=INTERPRETER)
        self.n_run = 0

    @classmethod
    def from_limits(cls, task: Task, split: str, limits: dict[str, Any]) -> "Referee":
        """Return a referee with the limits of a file that stage `referee` wrote."""
        return cls(task, split, max_slowdown=limits["max_slowdown"], memory_mib=limits["memory_mib"])

    def __enter__(self) -> "Referee":
        with ExitStack() as stack:  # a template that fails must not leave the workers behind
            stack.enter_context(self._pool)
            missing = self._pool.missing_layers
            if missing:
                risks = "; ".join(f"{layer}: {RISKS[layer]}" for layer in missing)
                print(f"sandbox: this machine does not offer {risks}", file=sys.stderr, flush=True)
            self._cache = VerdictCache(self.task.name)
            stack.callback(self._cache.close)
            # Measured once per version of the task, so that reruns have the same limit.
            setting = fingerprint([], version=self.version, limit=self._max_slowdown)
            self.timeout_s = self._cache.time_limit(setting, self._measured_time_limit)
            self._stack = stack.pop_all()
        limits = {"timeout_s": self.timeout_s, "memory_mib": self._memory_mib, "missing": missing}
        self._setting = fingerprint([], version=self.version, **limits)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def judge(self, programs: Iterable[str]) -> list[Verdict]:
        """Return one verdict per program, in order. Of programs with equal syntax trees, only one ever runs."""
        programs = list(programs)
        keys = [key(program) for program in programs]
        verdicts = self._cache.find(self._setting, keys)
        new = {hashed: program for hashed, program in zip(keys, programs, strict=True) if hashed not in verdicts}
        judged = dict(self._run(new))
        self._cache.add(self._setting, judged)
        verdicts |= judged
        return [verdicts[hashed] for hashed in keys]

    def _run(self, new: dict[str, str]) -> Iterator[tuple[str, Verdict]]:
        """Yield (key, verdict) of each program that the cache does not have. new: programs by key."""
        too_long = Verdict("forbidden", f"longer than {MAX_LENGTH} characters")
        yield from ((hashed, too_long) for hashed, program in new.items() if len(program) > MAX_LENGTH)
        programs = [(program, hashed) for hashed, program in new.items() if len(program) <= MAX_LENGTH]
        self.n_run += len(programs)
        for number, verdict in self._pool.judge(programs, self.timeout_s, self._memory_mib):
            yield programs[number][1], verdict

    def _measured_time_limit(self) -> float:
        """Return the limit in CPU seconds. Raises UserError where the template is no valid program."""
        runs = list(self._pool.judge([(self.task.template, "f" * 8)] * 3, 600.0, self._memory_mib))
        failed = [verdict for _, verdict in runs if verdict.status != "ok"]
        if failed:
            raise UserError(f"{self.task.name}: the template program is {failed[0].status}: {failed[0].reason}")
        fastest = min(verdict.cpu_s for _, verdict in runs)
        return max(MIN_TIMEOUT_S, rounded(self._max_slowdown * fastest))


def key(program: str) -> str:
    """Return a hash of the normal form, 32 hexadecimal digits; lone surrogates, which UTF-8 lacks, are escaped."""
    return hashlib.sha256(normal_form(program).encode(errors="backslashreplace")).hexdigest()[:32]


def code_version(task: Task) -> str:
    """Return a hash of the code that affects a verdict: referee, task, and template, which sets the time limit."""
    return fingerprint([task.file], code=code_fingerprint(*DOORS, *judging(task.folder)))


def rounded(seconds: float) -> float:
    """Round up to 1, 2, 5, 10, 20, 50 ..., so that small differences between machines do not change the limit."""
    step = 10.0 ** np.floor(np.log10(seconds))
    return float(next(factor * step for factor in (1, 2, 5, 10) if seconds <= factor * step))
