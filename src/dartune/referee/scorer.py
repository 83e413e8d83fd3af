"""Scorer: decisions that came out of a program's process become a verdict, in a process that runs no program."""

from typing import Any

import numpy as np

from dartune.programs.decisions import decode
from dartune.programs.verdict import Refused, Verdict
from dartune.referee.behaviour import fingerprint, signature
from dartune.tasks.task import Task


class Scorer:
    """The task's referee with its own instances."""

    def __init__(self, task: Task, instances: list[dict[str, np.ndarray]], missing: list[str]) -> None:
        self._task, self._n_instances = task, len(instances)
        self._board = task.cost.prepare(instances)
        self._missing = ", ".join(missing)

    def verdict(self, report: dict[str, Any], answer: bytes, timeout_s: float) -> Verdict:
        """report: what the worker saw of the child, {"cpu_s", "is_late", "signal"}. answer: what the child wrote."""
        cpu_s: float = report["cpu_s"]
        try:
            if report["is_late"]:
                took = f"took {cpu_s:.1f} s of CPU time" if cpu_s > timeout_s else "waited"
                raise Refused("timeout", f"{took}; the limit is {timeout_s:g} s")
            if not answer:
                how = f"by signal {report['signal']}" if report["signal"] not in (0, 9) else "without an answer"
                raise Refused("crash", f"the process ended {how}")
            settled = self._settle(decode(answer, self._n_instances))
            return Verdict("ok", "", *settled, cpu_s=cpu_s, missing_layers=self._missing)
        except Refused as refused:
            return Verdict(refused.status, refused.reason, cpu_s=cpu_s, missing_layers=self._missing)

    def _settle(self, decisions: list[np.ndarray]) -> tuple[float, tuple[float, ...], str, tuple[int, ...]]:
        """Score, costs, behaviour and signature, or Refused."""
        costs, moves = self._task.cost.settle(self._board, decisions)
        return self._task.score(costs), tuple(costs), fingerprint(moves), signature(moves)
