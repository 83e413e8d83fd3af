"""The referee: programs in, verdicts out. It holds the instances and counts the cost; programs run elsewhere.

The child proposes, the parent scores: worker.py's processes hand back decisions, which the task's referee checks and
costs on its own instances. A program that forges its process's answer has only made other decisions.
"""

import ast
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from dartune import worker
from dartune.task import Task
from dartune.verdict import STATUSES, Refused, Verdict
from dartune.worker import pack, read_frame, write_frame


class Referee:
    """Judges programs of one task on one split. A context manager: its worker processes live inside the block.

    timeout_s: CPU seconds that a program may take for all instances together. memory_mib: what it may allocate.
    """

    def __init__(self, task: Task, split: str, *, timeout_s: float, memory_mib: int) -> None:
        self.task = task
        self.instances = task.instances(split)
        self.limits = {"timeout_s": timeout_s, "memory_mib": memory_mib}
        self._seen: dict[str, Verdict] = {}
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._workers = [Worker(task.name, self.instances) for _ in range(len(os.sched_getaffinity(0)))]

    def __enter__(self) -> "Referee":
        for each in self._workers:
            self._idle.put(each)
        self._threads = ThreadPoolExecutor(len(self._workers))
        return self

    def __exit__(self, *_: Any) -> None:
        self._threads.shutdown(cancel_futures=True)
        for each in self._workers:
            each.stop()

    def judge(self, programs: Iterable[str]) -> list[Verdict]:
        """One verdict per program, in order. Programs with the same syntax tree run once."""
        programs = list(programs)
        trees = [normal_form(program) for program in programs]
        new = {tree: program for tree, program in zip(trees, programs, strict=True) if tree not in self._seen}
        self._seen.update(zip(new, self._threads.map(self._judge_one, new.values()), strict=True))
        return [self._seen[tree] for tree in trees]

    def _judge_one(self, program: str) -> Verdict:
        idle = self._idle.get()
        try:
            header, answer = idle.run(program, **self.limits)
        finally:
            self._idle.put(idle)
        try:
            return self._settle(parse(header, answer), header["cpu_s"])
        except Refused as refused:
            return Verdict(refused.status, refused.reason, cpu_s=header["cpu_s"])

    def _settle(self, decisions: list[Any], cpu_s: float) -> Verdict:
        if len(decisions) != len(self.instances):
            raise Refused("output", f"{len(decisions)} decisions for {len(self.instances)} instances")
        pairs = zip(self.instances, decisions, strict=True)
        settled = [self.task.referee.settle(instance, decision) for instance, decision in pairs]
        costs = [cost for cost, _ in settled]
        behaviour = hashlib.sha256(json.dumps([solution for _, solution in settled]).encode()).hexdigest()[:16]
        return Verdict("ok", "", self.task.score(costs), tuple(costs), behaviour, cpu_s)


class Worker:
    """One worker process with its pipes, started anew when it has died."""

    def __init__(self, task: str, instances: list[dict[str, Any]]) -> None:
        self._task, self._instances = task, pack(instances)
        self._folder = tempfile.TemporaryDirectory(prefix="dartune-")
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", worker.__file__, self._task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self._folder.name,
            env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=False,  # a killed stage takes its workers with it
        )
        self._send(self._instances)

    def run(self, program: str, **limits: Any) -> tuple[dict[str, Any], bytes]:
        """The worker's header about the child, and the bytes that the child wrote."""
        if self._process.poll() is not None:  # killed from outside, between two programs
            self._start()
        self._send(json.dumps({"program": program, **limits}).encode())
        assert self._process.stdout is not None
        header, answer = read_frame(self._process.stdout), read_frame(self._process.stdout)
        if header is None or answer is None:  # killed by this program
            self.stop()
            return {"cpu_s": 0.0, "is_late": False, "signal": 0}, b""
        return json.loads(header), answer

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, body: bytes) -> None:
        assert self._process.stdin is not None
        write_frame(self._process.stdin, body)


def parse(header: dict[str, Any], answer: bytes) -> list[Any]:
    """The decisions in a child's answer, or Refused with what became of the child."""
    if header["is_late"]:
        raise Refused("timeout", f"took {header['cpu_s']:.1f} s of CPU time")
    if not answer:
        raise Refused("crash", f"ended by signal {header['signal']}" if header["signal"] else "ended without an answer")
    try:
        content = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise Refused("output", "the answer is not JSON, or too large") from error
    if isinstance(content, dict) and content.get("status") in STATUSES[1:]:
        raise Refused(content["status"], str(content.get("reason", "")))
    if not isinstance(content, dict) or not isinstance(content.get("decisions"), list):
        raise Refused("output", "the answer holds no decisions")
    return list(content["decisions"])


def normal_form(program: str) -> str:
    """Text that is equal for programs with the same syntax tree: comments, layout and docstrings do not count."""
    try:
        tree = ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return program
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
