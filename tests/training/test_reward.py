"""Rewards of the online trainers: a program's quality, or less the less of a program it is."""

import math

import pytest

from dartune.programs.verdict import STATUSES, Verdict
from dartune.referee.referee import Referee
from dartune.tasks.task import Task
from dartune.training.reward import FAILURES, Reward
from small_llama import BROKEN, FIRST, LAST, TASK, quality

# The same failure or program as the model may write it, from nothing to the furthest that fails.
ATTEMPTS = {
    "no_program": "I cannot.",
    "syntax": BROKEN,
    "forbidden": "import os\ndef select_next_node(a, b, c, d):\n    os.fork()\n    return c[0]",
    "import": "import torch\ndef select_next_node(a, b, c, d):\n    return torch.tensor(c)[0]",
    "signature": "def select_next_node(a, b):\n    return 0",
    "runtime": "def select_next_node(a, b, c, d):\n    return 1 // 0",
    "memory": "def select_next_node(a, b, c, d):\n    return [0] * 10**9",
    "infeasible": "def select_next_node(a, b, c, d):\n    return a",
}


def test_a_reward_is_the_quality_of_a_program_or_what_its_failure_costs(referee: Referee) -> None:
    reward = Reward(referee, "train")
    texts = [*ATTEMPTS.values(), LAST, FIRST]
    values = reward(texts)
    assert values[: len(ATTEMPTS)] == [FAILURES[status] for status in ATTEMPTS]
    assert values[len(ATTEMPTS) :] == pytest.approx([quality(-1, "train"), quality(0, "train")])
    assert reward([[{"role": "assistant", "content": text}] for text in texts]) == values


def test_rewards_rise_with_how_far_a_program_got() -> None:
    assert set(FAILURES) == set(STATUSES) - {"ok"}
    order = ["syntax", "import", "signature", "runtime", "timeout", "output", "infeasible"]
    assert [FAILURES[status] for status in order] == sorted({FAILURES[status] for status in order})
    assert FAILURES["no_program"] == min(FAILURES.values()) == -1 and max(FAILURES.values()) < 0


def test_a_reward_lies_between_0_and_1_however_good_the_program(referee: Referee) -> None:
    reward, reference = Reward(referee, "train"), Task(TASK).reference("train")
    scores = {-reference / 2: 1.0, -reference: 1.0, -4 * reference: 0.25, -math.inf: 0.0}  # a tour's length, negated
    assert {score: reward.of(Verdict("ok", score=score)) for score in scores} == scores
