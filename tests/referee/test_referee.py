"""The referee as a whole: right costs, verdicts that are kept, a fair time limit, no chance."""

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import slow_referee
from dartune.errors import UserError
from dartune.referee.referee import Referee, rounded
from dartune.tasks.task import Task

NEAREST = "def select_next_node(c, d, u, m):\n    return u[0]\n"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Verdicts are kept in the working directory: here there are none."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def open_referee(task: str = "tsp_construct", split: str = "train") -> Referee:
    return Referee(Task(task), split, max_slowdown=1, memory_mib=256)


def drawn(task: str, n: int) -> Iterator[str]:
    rng = random.Random(20)
    return (Task(task).grammar.draw(rng) for _ in range(n))


# ---- right


@pytest.mark.parametrize(
    ("task", "split"),
    [("admissible_set", "shifted_12_7"), ("tsp_construct", "train"), ("cvrp_construct", "train")],
)
def test_costs_of_200_drawn_programs_are_those_of_a_slow_referee(task: str, split: str) -> None:
    programs = list(drawn(task, 200))
    with open_referee(task, split) as referee:
        verdicts = referee.judge(programs)
    instances = Task(task).instances(split)
    for program, verdict in zip(programs, verdicts, strict=True):
        namespace: dict = {"__name__": "program"}
        np.random.seed(0)
        exec(program, namespace)
        function = namespace[Task(task).rollout.FUNCTION]
        arguments = (12, 7) if task == "admissible_set" else (instances,)
        assert verdict.status == "ok", verdict
        assert verdict.costs == pytest.approx(getattr(slow_referee, task)(function, *arguments), rel=1e-12), program


def test_costs_of_the_large_admissible_set_agree_too() -> None:
    programs = list(drawn("admissible_set", 5))
    with open_referee("admissible_set") as referee:
        for program, verdict in zip(programs, referee.judge(programs), strict=True):
            namespace: dict = {}
            exec(program, namespace)
            assert list(verdict.costs or ()) == slow_referee.admissible_set(namespace["priority"], 15, 10)


# ---- remembered


def test_a_program_runs_once_in_all_runs_whatever_its_layout() -> None:
    with open_referee() as referee:
        first = referee.judge([NEAREST, "# a comment\n" + NEAREST, NEAREST])
        assert referee.n_run == 1
    with open_referee() as referee:
        assert referee.judge([NEAREST]) == first[:1] == first[1:2]
        assert referee.n_run == 0


def test_other_instances_or_other_limits_make_a_program_run_again() -> None:
    for split, memory_mib, n_run in (("train", 256, 1), ("validation", 256, 1), ("train", 200, 1), ("train", 256, 0)):
        with Referee(Task("tsp_construct"), split, max_slowdown=1, memory_mib=memory_mib) as referee:
            referee.judge([NEAREST])
            assert referee.n_run == n_run


SCORE_SIXTY = """
import sys
from dartune.referee.referee import Referee
from dartune.tasks.task import Task
with Referee(Task("tsp_construct"), "train", max_slowdown=1, memory_mib=256) as referee:
    for first in range(0, 60, 10):
        referee.judge([f"def select_next_node(c, d, u, m):\\n    return u[0]\\nN = {first + i}\\n" for i in range(10)])
print(referee.timeout_s)
"""


def test_two_processes_share_verdicts_and_the_time_limit() -> None:
    running = [subprocess.Popen([sys.executable, "-c", SCORE_SIXTY], stdout=subprocess.PIPE) for _ in range(2)]
    limits = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0] and len(limits) == 1
    with open_referee() as referee:
        assert {verdict.status for verdict in referee.judge([f"{NEAREST}N = {i}\n" for i in range(60)])} == {"ok"}
        assert referee.n_run == 0


# ---- the limit


@pytest.mark.parametrize(("seconds", "limit"), [(0.5, 0.5), (0.51, 1.0), (1.01, 2.0), (4.2, 5.0), (51.0, 100.0)])
def test_a_limit_is_a_round_number_above(seconds: float, limit: float) -> None:
    assert rounded(seconds) == pytest.approx(limit)


def test_the_limit_is_measured_once_and_then_remembered() -> None:
    with Referee(Task("cvrp_construct"), "train", max_slowdown=1e5, memory_mib=256) as referee:
        first = referee.timeout_s
    with sqlite3.connect(".work/verdicts/cvrp_construct.sqlite") as database:
        assert database.execute("select seconds from time_limits").fetchall() == [(first,)] and first > 2.0
        database.execute("update time_limits set seconds = 77")
    with Referee(Task("cvrp_construct"), "train", max_slowdown=1e5, memory_mib=256) as referee:
        assert referee.timeout_s == 77.0


def test_a_busy_machine_makes_no_honest_program_late() -> None:
    slow = "def select_next_node(c, d, u, m):\n    for _ in range(20000): pass\n    return u[0]\n"
    spin = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]
    try:
        with open_referee() as referee:
            start = time.monotonic()
            verdicts = referee.judge([f"{slow}N = {i}\n" for i in range(4)])
            elapsed = time.monotonic() - start
    finally:
        for process in spin:
            process.kill()
            process.wait()
    assert [verdict.status for verdict in verdicts] == ["ok"] * 4
    assert elapsed > 1.5 * sum(verdict.cpu_s for verdict in verdicts) / 2  # it was busy


# ---- deterministic


def test_a_program_that_the_clock_decides_is_nondeterministic() -> None:
    clock = "import time\ndef select_next_node(c, d, u, m):\n    return u[time.time_ns() // 1000 % len(u)]\n"
    unseeded = "import numpy as np\ndef select_next_node(c, d, u, m):\n    return np.random.default_rng().choice(u)\n"
    seeded = "import numpy as np\ndef select_next_node(c, d, u, m):\n    return np.random.RandomState(c).choice(u)\n"
    plain = "import random\ndef select_next_node(c, d, u, m):\n    return random.choice(list(u))\n"
    with open_referee() as referee:
        first, *others = referee.judge([clock, *(f"{p}N = {i}\n" for p in (unseeded, seeded, plain) for i in range(3))])
    assert (first.status, first.score) == ("nondeterministic", None)
    assert {verdict.status for verdict in others} == {"ok"}
    assert [len({verdict.costs for verdict in others[i : i + 3]}) for i in (0, 3, 6)] == [1, 1, 1]


def test_a_cost_py_that_fails_is_told_in_one_line_and_blames_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = Task("tsp_construct")
    monkeypatch.setattr(task.cost, "compute_costs", lambda *_: [][0])
    with (
        pytest.raises(UserError, match=r"^tsp_construct: cost\.py fails on a program's decisions \(IndexError: list"),
        Referee(task, "train", max_slowdown=1000, memory_mib=256) as referee,
    ):
        referee.judge([task.template])
