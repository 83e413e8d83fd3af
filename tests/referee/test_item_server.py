"""The items of an online task are in another process than programs, which get each after their last decision."""

import os
import pickle
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from dartune.programs.decisions import decode
from dartune.programs.verdict import Refused
from dartune.referee.item_server import drain
from dartune.referee.referee import Referee
from dartune.referee.worker_pool import Worker
from dartune.tasks.task import Task, decisions_on

TASK = Task("online_bin_packing")
BEST_FIT = "def priority(item, bins):\n    return item - bins\n"
# Gives no priorities where something that it can reach from the frames of the rollout and its driver may hold items.
PEEKS = """import sys
import numpy as np


def priority(item, bins):
    frame = sys._getframe(1)
    rollout = frame.f_locals
    while frame.f_code.co_name != "decide":
        frame = frame.f_back
    driver = frame.f_locals
    held = [*rollout["instance"].values(), *driver.values(), *vars(driver["reveal"]).values()]
    lists = [each for each in held if isinstance(each, list | tuple | np.ndarray)]
    known = [each for each in lists if len(each) > len(driver["rollouts"])]
    return None if known or hasattr(driver["reveal"], "__self__") else item - bins
"""


@pytest.fixture
def referee(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Referee]:
    monkeypatch.chdir(tmp_path)
    with Referee(TASK, "validation", max_slowdown=1000, memory_mib=512) as opened:
        yield opened


def test_a_worker_gets_the_number_of_items_and_another_split_s_instance() -> None:
    for split, other in (("test", "train"), ("train", "validation")):
        instances = TASK.instances(split)
        shown, warm_up = pickle.loads(Worker(TASK, split, instances, None)._instances)
        assert [one["items"] for one in shown] == [len(one["items"]) for one in instances]
        assert [one["capacity"] for one in shown] == [one["capacity"] for one in instances]
        np.testing.assert_equal(warm_up, TASK.instances(other)[:1])


def test_an_offline_task_has_no_other_process() -> None:
    with Referee(Task("admissible_set"), "train", max_slowdown=1000, memory_mib=512):
        assert not servers()


def servers() -> list[psutil.Process]:
    """The processes that have items."""
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in children if any(Path(part).name == "item_server.py" for part in child.cmdline())]


def test_a_server_that_is_killed_is_started_again_with_its_worker(referee: Referee) -> None:
    (known,) = referee.judge([BEST_FIT])
    for number, server in enumerate(servers()):
        os.kill(server.pid, signal.SIGKILL)
        (verdict,) = referee.judge([f"{BEST_FIT}NUMBER = {number}\n"])
        assert (verdict.status, verdict.costs) == ("ok", known.costs)


def test_a_frame_has_no_items_to_come(referee: Referee) -> None:
    (verdict,) = referee.judge([PEEKS])
    assert verdict.status == "ok", verdict
    scope: dict[str, Any] = {}
    exec(PEEKS, scope)
    with pytest.raises(Refused):  # where the items are in the same process, it finds them
        list(decisions_on(TASK.instances("validation"), TASK.rollout, scope["priority"]))


def test_what_an_earlier_program_sent_is_dropped() -> None:
    mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine, other:
        for number in range(5):
            other.send(bytes([number] * 8))
        drain(mine)
        mine.setblocking(False)
        with pytest.raises(BlockingIOError):
            mine.recv(8)


def test_answers_of_a_program_that_stops_early_are_refused(referee: Referee) -> None:
    early = "import os\nos.write(3, bytes([1, 0, 0, 0, 0, 0, 0, 0]) + b'=')\nos._exit(0)\n"
    (verdict,) = referee.judge([early])
    assert verdict.status == "output", verdict
    assert len(decode(b"=", 0)) == 0  # such an answer is one for no instance
