"""The cache of verdicts: exact, shared by processes, and whole after a kill or on a full disk."""

import subprocess
import sys
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path
from threading import Barrier

import pytest

from dartune.errors import UserError
from dartune.programs.verdict import Verdict
from dartune.referee.cache import VerdictCache

FILE = Path(".work/verdicts/tsp_construct.sqlite")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts are kept in the working directory: here there are none."""
    monkeypatch.chdir(tmp_path)


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process with an open cache that runs the script."""
    head = """
import sys, time
from dartune.programs.verdict import Verdict
from dartune.referee.cache import VerdictCache
cache = VerdictCache("tsp_construct")
def batch(writer, number):
    verdicts = [Verdict("ok", "", -number / 7, (0.1 * i,) * 16, "b", (2**64 - 1, i)) for i in range(50)]
    return {f"{writer}-{number}-{i}": verdict for i, verdict in enumerate(verdicts)}
"""
    command = [sys.executable, "-c", head + script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outputs(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What processes print, once all of them have ended well."""
    ended = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), ended
    return [output for output, _ in ended]


def programs(writer: object, n_batches: int) -> list[str]:
    return [f"{writer}-{number}-{i}" for number in range(n_batches) for i in range(50)]


def test_a_verdict_comes_back_to_the_last_digit() -> None:
    costs = (0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, 2.0, 1e22, float("inf"))
    verdicts = {
        "ok": Verdict("ok", "", -1 / 3, costs, "0123456789abcdef", (2**64 - 1, 0), 0.123456789012345678, "network"),
        "failed": Verdict("runtime", "ValueError: 'é\u2028'", cpu_s=1e-9),
    }
    cache = VerdictCache("tsp_construct")
    cache.add("setting", verdicts)
    cache.close()
    again = VerdictCache("tsp_construct").find("setting", ["ok", "failed", "unknown"])
    assert {name: repr(verdict) for name, verdict in again.items()} == {k: repr(v) for k, v in verdicts.items()}


def test_settings_and_tasks_do_not_share_verdicts() -> None:
    cache = VerdictCache("tsp_construct")
    cache.add("one", {"program": Verdict("ok")})
    assert cache.find("other", ["program"]) == {}
    assert VerdictCache("cvrp_construct").find("one", ["program"]) == {}


def test_any_number_of_programs_is_found_at_once() -> None:
    cache = VerdictCache("tsp_construct")
    verdicts = {f"{i:032x}": Verdict("ok", "", float(i)) for i in range(50_000)}
    cache.add("setting", verdicts)
    assert cache.find("setting", verdicts) == verdicts


WRITE_AND_READ = """
own, other, n_batches = sys.argv[1], sys.argv[2], int(sys.argv[3])
end, n_seen_early = time.monotonic() + 60, 0
for number in range(n_batches):
    cache.add("setting", batch(own, number))
    assert cache.find("setting", batch(own, number)) == batch(own, number)
    n_seen_early += len(cache.find("setting", batch(other, number))) > 0
while cache.find("setting", batch(other, n_batches - 1)) != batch(other, n_batches - 1):
    assert time.monotonic() < end, "the other's verdicts do not appear"
for number in range(n_batches):
    assert cache.find("setting", batch(other, number)) == batch(other, number)
"""


def test_two_processes_write_and_read_one_setting_side_by_side() -> None:
    outputs([start(WRITE_AND_READ, *names, 100) for names in ("ab", "ba")])
    assert len(VerdictCache("tsp_construct").find("setting", programs("a", 100) + programs("b", 100))) == 10_000


def test_a_file_that_many_open_at_once_is_opened_by_all() -> None:
    barrier = Barrier(4)

    def open_one(task: str) -> None:
        barrier.wait()
        VerdictCache(task).close()

    with ThreadPool(4) as pool:
        for number in range(50):  # a new file each time: what is slow to agree on is its first journal
            pool.map(open_one, [f"task_{number}"] * 4, chunksize=1)


OPEN_AND_AGREE = """
time.sleep(max(0, float(sys.argv[2]) - time.time()))
cache = VerdictCache("tsp_construct")
print(cache.time_limit("setting", lambda: float(sys.argv[1])))
"""


def test_processes_that_start_at_once_agree_on_one_time_limit() -> None:
    at = time.time() + 3
    limits = outputs([start(OPEN_AND_AGREE, 2 + i / 7, at) for i in range(6)])
    assert len(set(limits)) == 1 and float(limits[0]) in [2 + i / 7 for i in range(6)]
    cache = VerdictCache("tsp_construct")
    assert (
        cache.time_limit("setting", lambda: 99.0) == float(limits[0])
        and cache.time_limit("another", lambda: 99.0) == 99.0
    )


WRITE_FOR_EVER = """
for number in range(10**9):
    cache.add("setting", batch(sys.argv[1], number))
    print(number, flush=True)
"""


def test_no_committed_verdict_is_lost_by_sigkill() -> None:
    # Two writers at a time; a killed one may have committed a batch that it did not come to print, never half of one.
    for round_ in range(5):
        killed, survivor = start(WRITE_FOR_EVER, f"k{round_}"), start(WRITE_FOR_EVER, f"s{round_}")
        for process in (killed, survivor):
            assert process.stdout is not None and process.stdout.readline() == "0\n"
        time.sleep(0.05 + 0.07 * round_)
        killed.kill()
        assert killed.stdout is not None
        n_committed = 1 + len(killed.stdout.read().splitlines())  # communicate() drops what readline() read ahead
        killed.communicate()
        cache = VerdictCache("tsp_construct")
        assert len(cache.find("setting", programs(f"k{round_}", n_committed))) == 50 * n_committed
        assert len(cache.find("setting", programs(f"k{round_}", n_committed + 2))) in (
            50 * n_committed,
            50 * (n_committed + 1),
        )
        cache.add("setting", {f"after {round_}": Verdict("ok")})  # no lock is left either
        survivor.kill()
        survivor.communicate()
    assert len(cache.find("setting", [f"after {round_}" for round_ in range(5)])) == 5


FILL_THE_DISK = """
import resource
from dartune.errors import UserError
cache.add("setting", batch("early", 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    for number in range(100):
        cache.add("setting", batch("late", number))
except UserError as error:
    print(number, error)
"""


def test_a_full_disk_is_one_line_and_costs_no_earlier_verdict() -> None:
    (output,) = outputs([start(FILL_THE_DISK)])
    number, _, line = output.rstrip("\n").partition(" ")
    assert line.startswith(f"{FILE}: verdicts cannot be kept there (") and "\n" not in line
    cache = VerdictCache("tsp_construct")
    assert len(cache.find("setting", programs("early", 1) + programs("late", 100))) == 50 * (1 + int(number))


@pytest.mark.parametrize("make", [Path.mkdir, lambda file: file.write_bytes(b"no database " * 1000)])
def test_what_is_no_database_is_one_line_that_names_the_file(make) -> None:
    FILE.parent.mkdir(parents=True)
    make(FILE)
    with pytest.raises(UserError, match=rf"^{FILE}: verdicts cannot be kept there \(.*\); .*delete the file"):
        VerdictCache("tsp_construct").find("setting", ["program"])
