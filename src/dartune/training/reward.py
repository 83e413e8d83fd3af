"""Rewards of online training: the referee's verdict on each completion, failures graded by how far a program got."""

from typing import Any

from dartune.programs.verdict import Verdict
from dartune.referee.completions import judge
from dartune.referee.referee import Referee

# A reward for format alone teaches format alone, so these differ by little beside quality, 0 to 1: they only rank the
# failures of a group that fails as a whole, from which nothing would be learnt otherwise.
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
    """A reward function in TRL's form: quality on the instances of a split, 0 to 1, or the reward of a failure."""

    __name__ = "referee"  # TRL logs it as rewards/referee

    def __init__(self, referee: Referee, split: str) -> None:
        self.referee, self.split = referee, split

    def __call__(self, completions: list[Any], **_: Any) -> list[float]:
        return [self.of(one.verdict) for one in judge(self.referee, [text(completion) for completion in completions])]

    def of(self, verdict: Verdict) -> float:
        """Return the reward of one verdict."""
        if verdict.score is None:
            return FAILURES[verdict.status]
        return min(1.0, max(0.0, self.referee.task.quality(verdict.score, self.split)))


def text(completion: Any) -> str:
    """Return the text of a completion, which is a list of messages where the model has a chat template."""
    return str(completion if isinstance(completion, str) else completion[-1]["content"])
