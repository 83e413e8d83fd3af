"""Stages that are killed again and again end with the bytes of an undisturbed run, and do nothing twice."""

import json
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dartune.referee.cache import VerdictCache
from dartune.referee.referee import key, write_referee
from dartune.tasks.task import Task
from replayed_search import JUDGES, LIMITS, TASK

ROOT = Path(__file__).parents[2]


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
    programs = [grammar.draw(rng) for _ in range(450)]
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
            done = [int(line.split(": ")[1].split(" of ")[0]) for line in lines if " of 450" in line]
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


N_KILLS = 12
SCRIPT = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from dartune.pool import pool
from replayed_search import POOL, Replaying

class Slow(Replaying):
    def complete(self, prompts, **settings):
        time.sleep(0.05)
        return super().complete(prompts, **settings)

pool.open_backend = lambda source, task: Slow()
for folder in sys.stdin:  # imports take longer than the pool: so each run is a fork, whose number and end are told
    child = os.fork()
    if child == 0:
        os.chdir(folder.strip())
        output = Path("pool.parquet"), Path("pool.json")
        limits, options = Path("limits/eoh.json"), {"population": 10, "n_parents": 2}
        pool.write_pool("tsp_construct", limits, options, *output, **POOL | {"n_programs": 100})
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def workers(parent: int) -> list[psutil.Process]:
    """The referee's processes that this one started: its number is their last argument."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if command[-1:] == [str(parent)] and any(part.endswith("worker.py") for part in command):
            found.append(process)
    return found


@pytest.fixture
def script(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "tmp").mkdir()
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(Path(__file__).parents[1])],
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as process:
        yield process


def test_a_pool_killed_at_random_moments_is_that_of_an_undisturbed_run(
    tmp_path: Path, script: subprocess.Popen[bytes]
) -> None:
    assert script.stdin and script.stdout
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    for folder in (whole, killed):
        write_referee(TASK.name, JUDGES, folder / "limits", **LIMITS, cluster=None)

    def batches_of(folder: Path) -> int:
        return len(list(folder.glob(".work/pool/tsp_construct/*/*.parquet")))

    def run(folder: Path, seconds: float = 60.0, n_more: int = 0) -> tuple[int, int]:
        """How a run ended that was killed so many seconds after it had n_more batches, and how many workers it had."""
        before = batches_of(folder)
        script.stdin.write(f"{folder}\n".encode())
        child, n_workers = int(script.stdout.readline()), 0
        while batches_of(folder) < before + n_more and not select.select([script.stdout], [], [], 0.01)[0]:
            pass
        if not select.select([script.stdout], [], [], seconds)[0]:
            n_workers = len(workers(child))
            os.kill(child, signal.SIGKILL)
        end = int(script.stdout.readline())
        until = time.monotonic() + 10
        while workers(child) and time.monotonic() < until:
            time.sleep(0.02)
        assert workers(child) == []
        return os.waitstatus_to_exitcode(end), n_workers

    assert run(whole)[0] == 0
    expected = (whole / "pool.parquet").read_bytes()
    begun = time.monotonic()
    assert run(whole)[0] == 0  # once more, with all its verdicts known
    longest = time.monotonic() - begun

    rng, output, n_workers, n_batches = random.Random(0), killed / "pool.parquet", [], set()
    while len(n_workers) < N_KILLS:
        # every second kill at any moment, its start included; the others while batches are being written
        is_any = len(n_workers) % 2 == 0
        end, n = run(killed, rng.uniform(0.05, longest) if is_any else rng.uniform(0, 0.3), 0 if is_any else 1)
        assert not output.exists() or output.read_bytes() == expected  # never half a pool
        if end == 0:
            output.unlink()  # it was faster than its kill: once more
        else:
            assert end == -signal.SIGKILL
            n_workers.append(n)
            n_batches.add(batches_of(killed))
    assert max(n_workers) > 0 and len(n_batches) > 3  # kills did hit runs at work, and these did go on
    assert run(killed)[0] == 0
    assert output.read_bytes() == expected and pq.read_table(output).num_rows == 100
