"""Whatever is killed, a worker, a program, a parent or a stage: no verdict is lost and nothing is left behind."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dartune.programs.verdict import Verdict
from dartune.referee.cache import VerdictCache
from dartune.referee.referee import Referee, key
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


def make_score_folder(folder: Path, programs: list[str]) -> None:
    """Parameters, a pool and a base model's folder: all that stages/score.py needs."""
    folder.mkdir()
    rows = [{"id": i, "completion": f"```python\n{program}\n```"} for i, program in enumerate(programs)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pool.parquet")
    (folder / "base").mkdir()
    (folder / "params.yaml").write_text("score: {max_slowdown: 1000, memory_mib: 256, cluster: null}\n")


def start_scoring(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, ROOT / "stages/score.py", "tsp_construct", "pool.parquet", "base", "scored.parquet"]
    return subprocess.Popen([*command, "score.json", "cost.json"], cwd=folder, stderr=subprocess.PIPE, text=True)


def count_insertions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the folder's cache of verdicts keep count of what is added to it, also of what it has already."""
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        VerdictCache("tsp_construct").close()
    file = folder / ".work/verdicts/tsp_construct.sqlite"
    with sqlite3.connect(file) as database:
        database.execute("create table added (program text)")
        database.execute(
            "create trigger count_added before insert on verdicts begin insert into added values (new.program); end"
        )
    return file


def n_added(file: Path) -> tuple[int, int]:
    """How many verdicts were added, and on how many different programs."""
    with sqlite3.connect(file) as database:
        return database.execute("select count(*), count(distinct program) from added").fetchone()


def test_scoring_killed_six_times_evaluates_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, grammar = random.Random(20), Task("tsp_construct").grammar
    programs = [grammar.draw(rng) for _ in range(220)]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        make_score_folder(folder, programs)
    database, start = count_insertions(killed, monkeypatch), time.monotonic()
    assert start_scoring(undisturbed).wait() == 0
    seconds, n_kills = time.monotonic() - start, 0
    expected = (undisturbed / "scored.parquet").read_bytes()
    while n_kills < 6:
        process = start_scoring(killed)
        try:
            process.wait(rng.uniform(0.4, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            n_kills += 1
            lines = process.communicate()[1].splitlines()
            done = [int(line.split(": ")[1].split(" of ")[0]) for line in lines if " of 220" in line]
            n_verdicts, n_programs = n_added(database)
            assert n_verdicts == n_programs  # no verdict that was kept has been found again
            assert len({key(program) for program in programs[: max(done, default=0)]}) <= n_programs
            continue
        assert process.returncode == 0
        assert (killed / "scored.parquet").read_bytes() == expected
        subprocess.run(["rm", "-rf", ".work", "scored.parquet", "score.json"], cwd=killed, check=True)
        database = count_insertions(killed, monkeypatch)
    assert start_scoring(killed).wait() == 0
    assert (killed / "scored.parquet").read_bytes() == expected
    assert json.loads((killed / "score.json").read_text())["n_programs"] == len(programs)
