"""The referee as a whole: right, remembered, deterministic, and nothing lost when something is killed."""

import json
import os
import platform
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import slow_referee
from dartune.programs import decisions
from dartune.programs.canonical import runs_twice
from dartune.programs.decisions import decode, encode, encode_failure
from dartune.programs.verdict import Refused, Verdict
from dartune.referee import cache
from dartune.referee.referee import Referee, key, rounded
from dartune.tasks.task import Task

ROOT = Path(__file__).parents[2]
NEAREST = "def select_next_node(c, d, u, m):\n    return u[0]\n"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """VerdictCache are remembered in the working directory: here there are none."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def open_referee(task: str = "tsp_construct", split: str = "train") -> Referee:
    return Referee(Task(task), split, max_slowdown=1, memory_mib=256)


def nearest(n: int) -> list[str]:
    """n programs that differ, and act alike."""
    return [f"{NEAREST}\n\nNUMBER = {i}\n" for i in range(n)]


def drawn(task: str, n: int) -> Iterator[str]:
    rng = random.Random(20)
    return (Task(task).grammar.draw(rng) for _ in range(n))


# ---- right


@pytest.mark.parametrize(
    ("task", "split"),
    [("admissible_set", "shifted_12_7"), ("tsp_construct", "train"), ("cvrp_construct", "train")],
)
def test_costs_of_500_drawn_programs_are_those_of_a_slow_and_obvious_referee(task: str, split: str) -> None:
    programs = list(drawn(task, 500))
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


def test_the_large_admissible_set_agrees_too() -> None:
    programs = list(drawn("admissible_set", 5))
    with open_referee("admissible_set") as referee:
        for program, verdict in zip(programs, referee.judge(programs), strict=True):
            namespace: dict = {}
            exec(program, namespace)
            assert list(verdict.costs or ()) == slow_referee.admissible_set(namespace["priority"], 15, 10)


# ---- remembered


def test_a_program_is_run_once_in_all_runs_and_layout_does_not_make_another() -> None:
    with open_referee() as referee:
        first = referee.judge([NEAREST, "# a comment\n" + NEAREST, NEAREST])
        assert referee.n_run == 1
    with open_referee() as referee:
        assert referee.judge([NEAREST]) == first[:1] == first[1:2]
        assert referee.n_run == 0


def test_other_instances_and_other_limits_are_other_evaluations() -> None:
    for split, memory_mib, n_run in (("train", 256, 1), ("validation", 256, 1), ("train", 200, 1), ("train", 256, 0)):
        with Referee(Task("tsp_construct"), split, max_slowdown=1, memory_mib=memory_mib) as referee:
            referee.judge([NEAREST])
            assert referee.n_run == n_run


def test_a_program_that_reads_its_own_text_is_another_when_its_comments_are() -> None:
    plain = 'def f():\n    """Adds."""\n    return f.__doc__\n'
    assert key(plain) != key(plain.replace("Adds", "Adds up"))
    assert key(plain.replace("f.__doc__", "1")) == key(plain.replace("f.__doc__", "1").replace("Adds", "Adds up"))


def test_a_cut_file_of_evaluations_is_made_again_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    with open_referee() as referee:
        first = referee.judge(nearest(3))
    (file,) = Path(".work/evaluations").rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-20])
    with open_referee() as referee:
        again = referee.judge(nearest(3))
        assert referee.n_run == 3
    assert [each.costs for each in again] == [each.costs for each in first]
    assert file.name in capsys.readouterr().err


def test_many_files_of_evaluations_become_one_with_the_same_content() -> None:
    store = cache.VerdictCache("tsp_construct", "setting")
    for number in range(cache.MAX_FILES + 1):
        store.add({f"{number:032x}": Verdict("ok", "", -1.0, (1.0,), "b", (1, 2), 0.1)})
    assert len(list(Path(".work/evaluations/tsp_construct/setting").glob("*.parquet"))) == cache.MAX_FILES + 1
    for _ in range(2):
        joined = cache.VerdictCache("tsp_construct", "setting")
        assert all(joined[f"{number:032x}"] == store[f"{number:032x}"] for number in range(cache.MAX_FILES + 1))
        assert len(list(Path(".work/evaluations/tsp_construct/setting").glob("*.parquet"))) == 1


SCORE_TWICE = """
import sys
from dartune.referee.referee import Referee
from dartune.tasks.task import Task
with Referee(Task("tsp_construct"), "train", max_slowdown=1, memory_mib=256) as referee:
    for first in range(0, 60, 10):
        referee.judge([f"def select_next_node(c, d, u, m):\\n    return u[0]\\nN = {first + i}\\n" for i in range(10)])
print(referee.timeout_s)
"""


def test_two_processes_share_the_evaluations_and_the_limit() -> None:
    running = [subprocess.Popen([sys.executable, "-c", SCORE_TWICE], stdout=subprocess.PIPE) for _ in range(2)]
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
    (file,) = Path(".work/evaluations/cvrp_construct").rglob("timeout_s.txt")
    assert first > 2.0 and float(file.read_text()) == first
    file.write_text("77.0")
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


def test_a_program_that_the_clock_decides_is_marked_and_one_with_chance_repeats_itself() -> None:
    clock = "import time\ndef select_next_node(c, d, u, m):\n    return u[time.time_ns() // 1000 % len(u)]\n"
    unseeded = "import numpy as np\ndef select_next_node(c, d, u, m):\n    return np.random.default_rng().choice(u)\n"
    seeded = "import numpy as np\ndef select_next_node(c, d, u, m):\n    return np.random.RandomState(c).choice(u)\n"
    plain = "import random\ndef select_next_node(c, d, u, m):\n    return random.choice(list(u))\n"
    with open_referee() as referee:
        first, *others = referee.judge([clock, *(f"{p}N = {i}\n" for p in (unseeded, seeded, plain) for i in range(3))])
    assert (first.status, first.score) == ("nondeterministic", None)
    assert {verdict.status for verdict in others} == {"ok"}
    assert [len({verdict.costs for verdict in others[i : i + 3]}) for i in (0, 3, 6)] == [1, 1, 1]


def test_every_hundredth_of_the_other_programs_runs_twice() -> None:
    share = sum(runs_twice(program, key(program)) for program in nearest(3000)) / 3000
    assert 0.005 < share < 0.02
    assert runs_twice("import time", "f" * 32)


# ---- decisions


def test_decisions_come_out_as_they_went_in() -> None:
    arrays = decode(encode([[1, 2, -3], [0.5, float("inf")], []]), 3)
    assert [array.tolist() for array in arrays] == [[1, 2, -3], [0.5, float("inf")], []]
    assert [array.dtype.kind for array in arrays] == ["i", "f", "i"]


MALFORMED = [
    b"",
    b"?",
    b"=\x00",
    b"=x" + struct.pack("<I", 1) + bytes(8),
    b"=" + struct.pack("<cI", b"i", 2) + bytes(8),
    b"=" + struct.pack("<cI", b"i", 2**32 - 1),
    b"!",
    b"!{}",
    b"![]",
    b'!{"status": "ok"}',
    b'!{"status": ["runtime"]}' + bytes(3),
    b"!" + b"[" * 100_000,
    b"=" + struct.pack("<cI", b"i", 0) * 2,
    b"!" + json.dumps({"status": "runtime", "reason": "x" * 9000}).encode(),
    b"\x80\x04\x95",
]


@pytest.mark.parametrize("answer", MALFORMED)
def test_a_malformed_answer_is_refused_as_output(answer: bytes) -> None:
    with pytest.raises(Refused) as refused:
        decode(answer, 1)
    assert refused.value.status == "output"


def test_a_failure_keeps_its_status_and_one_short_line_of_reason() -> None:
    with pytest.raises(Refused) as refused:
        decode(encode_failure("runtime", "one\ntwo " + "x" * 1000), 1)
    assert refused.value.status == "runtime"
    assert refused.value.reason.startswith("one two x") and len(refused.value.reason) == 200


def test_integers_and_numbers_are_checked_for_kind_length_range_and_finiteness() -> None:
    def status(check: str, array: np.ndarray, **bounds: int) -> str:
        with pytest.raises(Refused) as refused:
            getattr(decisions, check)(array, **bounds)
        return refused.value.status

    assert status("integers", np.array([0.0]), max_length=3, below=3) == "output"
    assert status("integers", np.array([], int), max_length=3, below=3) == "output"
    assert status("integers", np.arange(4), max_length=3, below=9) == "output"
    assert status("integers", np.array([-1]), max_length=3, below=3) == "infeasible"
    assert status("integers", np.array([3]), max_length=3, below=3) == "infeasible"
    assert status("numbers", np.arange(3), length=3) == "output"
    assert status("numbers", np.array([0.0, np.nan]), length=2) == "nonfinite"


# ---- nothing lost


def test_killed_workers_are_replaced_and_the_verdicts_are_the_same() -> None:
    programs = nearest(300)
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


def test_a_program_killed_by_somebody_else_runs_again_and_twice_counts_as_a_crash() -> None:
    slow = "import time\n" + NEAREST.replace("return", "x = 0\n    while time.process_time() < 0.2: x += 1\n    return")
    with open_referee() as referee:
        workers = [child for child in psutil.Process().children() if "worker.py" in " ".join(child.cmdline())]

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


def test_the_folder_of_a_parent_that_was_killed_while_it_started_a_worker_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    script = """
import os, signal, subprocess, tempfile
from dartune.referee.worker_pool import WorkerPool
from dartune.tasks.task import Task
tempfile.tempdir = "tmp"
subprocess.Popen = lambda *_, cwd, **__: os.kill(os.getpid(), signal.SIGKILL)
WorkerPool(Task("tsp_construct"), "train", 1).__enter__()
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    (left,) = (tmp_path / "tmp").iterdir()
    beside = left.with_name(f"{platform.node()}-{os.getpid()}-ab.dartune")  # of one that is at it
    beside.mkdir()
    with open_referee() as referee:
        assert list((tmp_path / "tmp").iterdir()) == [beside]
        assert referee.judge([NEAREST])[0].status == "ok"


def test_what_a_killed_process_had_begun_to_write_is_removed_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    folder = tmp_path / ".work/evaluations/t/setting"
    folder.mkdir(parents=True)
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = [f"{platform.node()}-{process}-ab.partial" for process in (dead.pid, os.getpid())]
    names += [f"elsewhere-{dead.pid}-ab.partial"]
    for name in names:
        (folder / name).touch()
    cache.VerdictCache("t", "setting")
    assert sorted(path.name for path in folder.iterdir()) == sorted(names[1:])


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


def make_score_folder(folder: Path, n_programs: int) -> None:
    """Parameters, a pool of drawn programs and a base model's folder: all that stages/score.py needs."""
    rows = [
        {"id": i, "completion": f"```python\n{program}\n```"}
        for i, program in enumerate(drawn("cvrp_construct", n_programs))
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pool.parquet")
    (folder / "base").mkdir()
    (folder / "params.yaml").write_text("score: {max_slowdown: 1000, memory_mib: 256, cluster: null}\n")


def start_scoring(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, ROOT / "stages/score.py", "cvrp_construct", "pool.parquet", "base", "scored.parquet"]
    return subprocess.Popen([*command, "score.json", "cost.json"], cwd=folder, stderr=subprocess.PIPE, text=True)


def n_stored(folder: Path) -> tuple[int, int]:
    """VerdictCache on disk, and how many different ones."""
    files = list((folder / ".work/evaluations").rglob("*.parquet"))
    keys = [value for file in files for value in pq.read_table(file)["key"].to_pylist()]
    return len(keys), len(set(keys))


def test_scoring_killed_20_times_gives_the_same_bytes_and_evaluates_nothing_twice(tmp_path: Path) -> None:
    n_programs, rng = 700, random.Random(5)
    folders = [tmp_path / name for name in ("undisturbed", "killed")]
    for folder in folders:
        folder.mkdir()
        make_score_folder(folder, n_programs)
    assert start_scoring(folders[0]).wait() == 0
    expected = (folders[0] / "scored.parquet").read_bytes()
    start, kills = time.monotonic(), 0
    while kills < 20:
        process = start_scoring(folders[1])
        try:
            process.wait(rng.uniform(0.6, 2.6))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            in_all, different = n_stored(folders[1])
            assert in_all == different  # no verdict that was kept has been found again
            lines = process.stderr.read().splitlines() if process.stderr else []
            done = [int(line.split(": ")[1].split(" of ")[0]) for line in lines if " of 700" in line]
            assert len({key(p) for p in list(drawn("cvrp_construct", n_programs))[: max(done, default=0)]}) <= in_all
            continue
        assert process.returncode == 0
        assert (folders[1] / "scored.parquet").read_bytes() == expected
        for left in ("scored.parquet", "score.json"):
            (folders[1] / left).unlink()
        subprocess.run(["rm", "-rf", folders[1] / ".work"], check=True)
    assert start_scoring(folders[1]).wait() == 0
    assert (folders[1] / "scored.parquet").read_bytes() == expected
    assert json.loads((folders[1] / "score.json").read_text())["n_programs"] == n_programs
    print(f"{kills} kills in {time.monotonic() - start:.0f} s")
