"""Turns the decisions of a program into its verdict, in a process that runs no programs."""

from typing import Any

import numpy as np

from dartune.errors import UserError
from dartune.programs.decisions import decode
from dartune.programs.verdict import Refused, Verdict
from dartune.referee.behaviour import fingerprint, signature
from dartune.tasks.task import Task


class Scorer:
    """Computes costs with the task's cost.py, on its own copy of the instances.

    missing: the layers of the sandbox that this machine does not offer.
    """

    def __init__(self, task: Task, instances: list[dict[str, np.ndarray]], missing: list[str]) -> None:
        self._task, self._n_instances = task, len(instances)
        self._prepared = task.cost.prepare(instances)
        self._missing = ", ".join(missing)

    def verdict(self, report: dict[str, Any], answer: bytes, timeout_s: float) -> Verdict:
        """Return the verdict on one run.

        report: what the worker measured of the child, {"cpu_s", "is_late", "signal"}. answer: the bytes that the child
        wrote (decisions.py). timeout_s: the limit on CPU seconds, for the reason of a timeout. Raises UserError where
        cost.py fails on decisions that it should refuse: a verdict would blame the program for the task's mistake.
        """
        cpu_s: float = report["cpu_s"]
        try:
            if report["is_late"]:
                took = f"took {cpu_s:.1f} s of CPU time" if cpu_s > timeout_s else "waited"
                raise Refused("timeout", f"{took}; the limit is {timeout_s:g} s")
            if not answer:
                how = f"by signal {report['signal']}" if report["signal"] not in (0, 9) else "without an answer"
                raise Refused("crash", f"the process ended {how}")
            costs, moves = self._task.charged(self._prepared, decode(answer, self._n_instances))
            results = self._task.score(costs), tuple(costs), fingerprint(moves), signature(moves)
            return Verdict("ok", "", *results, cpu_s=cpu_s, missing_layers=self._missing)
        except Refused as refused:
            return Verdict(refused.status, refused.reason, cpu_s=cpu_s, missing_layers=self._missing)
        except (Exception, SystemExit) as error:  # of the task's own code, whatever it is
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(
                f"{self._task.name}: cost.py fails on a program's decisions ({reason}); it should raise Refused for "
                "what it cannot charge"
            ) from error
