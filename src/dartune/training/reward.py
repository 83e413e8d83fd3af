"""Rewards of online training: the referee's verdict on each completion, failures graded by how far a program got."""

from typing import Any

from dartune.programs.verdict import Verdict
from dartune.referee.completions import judge
from dartune.referee.referee import Referee

# A reward for format alone teaches format alone, so the steps are small beside what quality, 0 to 1, can give: they
# only tell failures apart where a whole group fails, where else nothing would be learnt.
FAILURES = {
    "no_program": -1.0,
    "syntax": -0.9,
    "forbidden": -0.9,  # like no program: what tries to get out must not pay
    "import": -0.8,
    "signature": -0.7,
    "runtime": -0.5,
    "crash": -0.5,
    "memory": -0.4,
    "timeout": -0.4,
    "nondeterministic": -0.4,
    "output": -0.3,
    "nonfinite": -0.3,
    "infeasible": -0.2,
}


class Reward:
    """A reward function as TRL calls it: quality on the instances of a split, at most 1, or what a failure costs."""

    __name__ = "referee"  # TRL logs it as rewards/referee

    def __init__(self, referee: Referee, split: str) -> None:
        self.referee, self.split = referee, split

    def __call__(self, completions: list[Any], **_: Any) -> list[float]:
        return [self.of(verdict) for _, verdict in judge(self.referee, [text(each) for each in completions])]

    def of(self, verdict: Verdict) -> float:
        if verdict.score is None:
            return FAILURES[verdict.status]
        return min(1.0, max(0.0, self.referee.task.quality(verdict.score, self.split)))


def text(completion: Any) -> str:
    """A completion is a list of messages where the model has a chat template."""
    return str(completion if isinstance(completion, str) else completion[-1]["content"])
