"""The referee: programs in, verdicts out. It remembers what it judged before and leaves the rest to a panel of workers.

The child proposes, the parent scores: decisions are all that comes out of a program's process (worker.py), and they
become verdicts where no program runs (settlement.py).
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

from dartune.files import atomic
from dartune.files.fingerprint import fingerprint
from dartune.files.modules import DOORS, code_fingerprint, judging
from dartune.programs.canonical import MAX_LENGTH, normal_form
from dartune.programs.verdict import Verdict
from dartune.referee.cache import VerdictCache
from dartune.referee.worker_pool import WorkerPool
from dartune.tasks.task import Task

MIN_TIMEOUT_S = 2.0
MAX_SLOWDOWN, MEMORY_MIB = 1000.0, 512  # of `dartune score`; stages take theirs from params.yaml
TRAIN = "train"  # no search method has this name


def write_referee(
    task: str,
    judges: dict[str, bool],
    output: Path,
    *,
    max_slowdown: PositiveFloat,
    memory_mib: PositiveInt,
    cluster: str | None,
) -> None:
    """Write version.json, and what judges the programs of each search method and of a training.

    <method>.json, train.json: {"version", "max_slowdown", "memory_mib"}, or {} for a method that judges none, so that
    its pool does not depend on the referee. judges: whether a search method has its programs judged, by name. The other
    arguments are those of stage score; cluster decides no verdict.
    """
    version = {"version": code_version(Task(task))}
    limits = version | {"max_slowdown": max_slowdown, "memory_mib": memory_mib}
    atomic.write_json(output / "version.json", version)
    for name, is_judged in (judges | {TRAIN: True}).items():
        atomic.write_json(output / f"{name}.json", limits if is_judged else {})


class Referee:
    """Judges programs of one task on one split. A context manager: its workers live inside the block.

    max_slowdown: CPU time that a program may take for all instances together, as a multiple of what the task's template
    takes here (at least MIN_TIMEOUT_S). memory_mib: what it may allocate. cluster: null for this machine's cores,
    "local" or an address for Ray, see cluster.py.
    """

    def __init__(
        self, task: Task, split: str, *, max_slowdown: float, memory_mib: int, cluster: str | None = None
    ) -> None:
        self.task = task
        self._max_slowdown, self._memory_mib = max_slowdown, memory_mib
        self._panel = open_panel(task, split, cluster)
        self.version = version(task, split)
        self.n_run = 0

    def __enter__(self) -> "Referee":
        with ExitStack() as stack:  # a template that fails must not leave the workers behind
            stack.enter_context(self._panel)
            missing = self._panel.missing
            if missing:
                print(f"sandbox: {missing_line(missing)}", file=sys.stderr, flush=True)
            self._cache = VerdictCache(self.task.name)
            stack.callback(self._cache.close)
            self.timeout_s = self._time_limit()
            self._stack = stack.pop_all()
        limits = {"timeout_s": self.timeout_s, "memory_mib": self._memory_mib, "missing": missing}
        self._setting = fingerprint([], version=self.version, **limits)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def judge(self, programs: Iterable[str]) -> list[Verdict]:
        """One verdict per program, in order. Programs with the same syntax tree run once, in all runs together."""
        programs = list(programs)
        keys = [key(program) for program in programs]
        verdicts = self._cache.find(self._setting, keys)
        new = {each: program for each, program in zip(keys, programs, strict=True) if each not in verdicts}
        judged = dict(self._run(new))
        self._cache.add(self._setting, judged)
        verdicts |= judged
        return [verdicts[each] for each in keys]

    def _run(self, new: dict[str, str]) -> Iterator[tuple[str, Verdict]]:
        too_long = Verdict("forbidden", f"longer than {MAX_LENGTH} characters")
        yield from ((each, too_long) for each, program in new.items() if len(program) > MAX_LENGTH)
        programs = [(program, each) for each, program in new.items() if len(program) <= MAX_LENGTH]
        self.n_run += len(programs)
        for number, verdict in self._panel.judge(programs, self.timeout_s, self._memory_mib):
            yield programs[number][1], verdict

    def _time_limit(self) -> float:
        """CPU seconds, measured once per version of the task and remembered, so that reruns have the same limit."""
        setting = fingerprint([], version=self.version, limit=self._max_slowdown)
        known = self._cache.time_limit(setting)
        return known or self._cache.agree_on_time_limit(setting, self._measured_time_limit())

    def _measured_time_limit(self) -> float:
        runs = list(self._panel.judge([(self.task.template, "f" * 8)] * 3, 600.0, self._memory_mib))
        failed = [verdict for _, verdict in runs if verdict.status != "ok"]
        if failed:
            raise RuntimeError(f"{self.task.name}: the template program is {failed[0].status}: {failed[0].reason}")
        fastest = min(verdict.cpu_s for _, verdict in runs)
        return max(MIN_TIMEOUT_S, rounded(self._max_slowdown * fastest))


def open_panel(task: Task, split: str, cluster: str | None) -> Any:
    if cluster is None:
        return WorkerPool(task, split)
    from dartune.referee.ray_pool import RayPool

    return RayPool(task, split, cluster)


def key(program: str) -> str:
    """Hash of the normal form. A program that no encoding holds (lone surrogates) is hashed with them escaped."""
    return hashlib.sha256(normal_form(program).encode(errors="backslashreplace")).hexdigest()[:32]


def version(task: Task, split: str) -> str:
    """Fingerprint of all that decides a verdict beside the program and the limits: code, instances, interpreter."""
    interpreter = {"python": platform.python_version(), "numpy": np.__version__}
    return fingerprint([], code=code_version(task), split=split, **interpreter)


def code_version(task: Task) -> str:
    """Fingerprint of the code that decides a verdict: the referee's, the task's, and the template, which sets the limit."""
    return fingerprint([task.file], code=code_fingerprint(*DOORS, *judging(task.name)))


def rounded(seconds: float) -> float:
    """Up to the next of 1, 2, 5, 10, 20, 50 ...: small differences between machines and runs do not move the limit."""
    step = 10.0 ** np.floor(np.log10(seconds))
    return float(next(factor * step for factor in (1, 2, 5, 10) if seconds <= factor * step))


def missing_line(missing: list[str]) -> str:
    risks = {
        "network": "only seccomp keeps programs from it",
        "landlock": "programs can read files",
        "seccomp": "system calls are not filtered",
    }
    return "this machine does not offer " + "; ".join(f"{layer}: {risks[layer]}" for layer in missing)
