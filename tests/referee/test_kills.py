"""Whatever is killed, a worker, a program, a parent or a stage: no verdict is lost and nothing is left behind."""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from dartune.programs.verdict import Verdict
from dartune.referee.referee import Referee
from dartune.tasks.task import Task

ROOT = Path(__file__).parents[2]
NEAREST = "def select_next_node(c, d, u, m):\n    return u[0]\n"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts are kept in the working directory: here there are none."""
    monkeypatch.chdir(tmp_path)


def open_referee() -> Referee:
    return Referee(Task("tsp_construct"), "train", max_slowdown=1, memory_mib=256)


def test_killed_workers_are_replaced_and_the_verdicts_are_the_same() -> None:
    programs = [f"{NEAREST}\n\nNUMBER = {i}\n" for i in range(300)]
    with open_referee() as referee:
        alone = referee.judge([NEAREST])[0]
        killer = subprocess.Popen([sys.executable, "-c", KILLER, str(os.getpid())])
        verdicts = referee.judge(programs)
        killer.kill()
        killer.wait()
    assert {verdict.status for verdict in verdicts} == {"ok"}
    assert {verdict.costs for verdict in verdicts} == {alone.costs}


KILLER = """
import psutil, random, sys, time
for _ in range(6):
    time.sleep(0.25)
    workers = [p for p in psutil.Process(int(sys.argv[1])).children() if "worker.py" in " ".join(p.cmdline())]
    if workers:
        random.choice(workers).kill()
"""


def test_a_program_that_was_killed_runs_again_and_then_is_a_crash() -> None:
    slow = "import time\n" + NEAREST.replace("return", "x = 0\n    while time.process_time() < 0.2: x += 1\n    return")
    with open_referee() as referee:
        workers = [child for child in psutil.Process().children() if is_worker(child)]

        def verdict_after(n_kills: int) -> Verdict:
            program = f"{slow}NUMBER = {n_kills}\n"
            with ThreadPoolExecutor() as pool:
                judged = pool.submit(referee.judge, [program])
                for _ in range(n_kills):
                    kill_program(workers)
                return judged.result()[0]

        undisturbed, once, twice = map(verdict_after, range(3))
    assert (undisturbed.status, once.status) == ("ok", "ok") and once.costs == undisturbed.costs
    assert (twice.status, twice.reason) == ("crash", "the process ended without an answer")


def is_worker(process: psutil.Process) -> bool:
    try:
        return "worker.py" in " ".join(process.cmdline())
    except psutil.ZombieProcess:  # that another test left to this process
        return False


def kill_program(workers: list[psutil.Process]) -> None:
    """Kill the process of the program that runs, and wait until it is gone."""
    end = time.monotonic() + 20
    while not (programs := [child for worker in workers for child in worker.children()]):
        assert time.monotonic() < end, "no program runs"
        time.sleep(0.002)
    programs[0].kill()
    psutil.wait_procs(programs[:1], timeout=5)


def test_workers_leave_no_folder_whatever_kills_their_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with open_referee() as referee:
        assert list((tmp_path / "tmp").iterdir()) == []
        assert referee.judge([NEAREST])[0].status == "ok"


def test_workers_and_what_they_run_end_with_the_process_that_started_them() -> None:
    endless = "def select_next_node(c, d, u, m):\n    while True: pass\n"
    script = f"""
from dartune.referee.referee import Referee
from dartune.tasks.task import Task
with Referee(Task("tsp_construct"), "train", max_slowdown=1, memory_mib=256) as referee:
    print("ready", flush=True)
    referee.judge([{endless!r} + f"N = {{i}}" for i in range(4)])
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    time.sleep(0.3)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2
    process.kill()
    process.wait()
    assert psutil.wait_procs(family, timeout=3)[1] == []
