"""The referee on a Ray cluster of this machine: the same verdicts, the same evaluations, killed actors included."""

import os
import subprocess
import sys
from collections.abc import Iterator
from random import Random

import pytest

from dartune.mistake import Mistake
from dartune.referee import Referee
from dartune.task import Task

N = 600


@pytest.fixture(scope="module", autouse=True)
def empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("cluster"))
    yield
    os.chdir(home)


def programs() -> list[str]:
    rng = Random(3)
    hostile = "def select_next_node(c, d, u, r, q, m):\n    {}\n"
    failing = [hostile.format(body) for body in ("return 10 ** 9", "import os; os._exit(0)", "open('x', 'w')")]
    return [*failing, *(Task("cvrp_construct").grammar.draw(rng) for _ in range(N))]


def judged(cluster: str | None, split: str = "train") -> tuple[list[tuple], int]:
    with Referee(Task("cvrp_construct"), split, max_slowdown=1000, memory_mib=256, cluster=cluster) as referee:
        verdicts = referee.judge(programs())
        return [(v.status, v.reason, v.costs, v.behaviour) for v in verdicts], referee.n_run


KILLER = """
import psutil, sys, time
n_kills, end = 0, time.monotonic() + 60
while n_kills < 3 and time.monotonic() < end:
    for process in psutil.Process(int(sys.argv[1])).children(recursive=True):
        try:
            if process.cmdline()[:1] == ["ray::Seat.judge"]:
                process.kill()
                n_kills += 1
                print(process.pid, flush=True)
                time.sleep(1)
                break
        except psutil.Error:
            pass
"""


def test_a_cluster_gives_the_verdicts_of_this_machine_also_when_its_actors_are_killed() -> None:
    killer = subprocess.Popen([sys.executable, "-c", KILLER, str(os.getpid())], stdout=subprocess.PIPE, text=True)
    there, n_there = judged("local")
    killer.kill()
    killed = killer.communicate()[0].split()
    here, n_here = judged(None)
    assert [verdict[0] for verdict in there[:3]] == ["infeasible", "crash", "forbidden"]
    assert there == here and len(killed) >= 1
    assert n_there > N * 0.9 and n_here == 0  # here remembers what the cluster found


def test_an_address_where_no_cluster_is_gets_one_line() -> None:
    with pytest.raises(Mistake, match=r"no Ray cluster answers at '127.0.0.1:1'"):
        judged("127.0.0.1:1", "validation")
