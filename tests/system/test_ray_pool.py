"""The referee on a Ray cluster of this machine: the same verdicts, the same evaluations, killed actors included."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from dartune.errors import UserError
from dartune.referee.referee import Referee
from dartune.tasks.task import Task
from ports import free_port

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
            if process.cmdline()[:1] == ["ray::RayWorker.judge"]:
                process.kill()
                n_kills += 1
                print(process.pid, flush=True)
                time.sleep(1)
                break
        except psutil.Error:
            pass
"""


def test_a_cluster_gives_this_machines_verdicts_when_actors_are_killed() -> None:
    killer = subprocess.Popen([sys.executable, "-c", KILLER, str(os.getpid())], stdout=subprocess.PIPE, text=True)
    there, n_there = judged("local")
    killer.kill()
    killed = killer.communicate()[0].split()
    here, n_here = judged(None)
    assert [verdict[0] for verdict in there[:3]] == ["infeasible", "crash", "forbidden"]
    assert there == here and len(killed) >= 1
    assert n_there > N * 0.9 and n_here == 0  # here remembers what the cluster found


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cluster that somebody else started on this machine, by the address of its client server."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")  # else it drops a client now and then: Ray's issue 63202
    port, client_port = free_port(), free_port()
    command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", "--node-ip-address", "127.0.0.1"]
    command += ["--port", str(port), "--ray-client-server-port", str(client_port), "--min-worker-port", "0"]
    command += ["--max-worker-port", "0", "--num-cpus", "2", "--include-dashboard", "false", "--disable-usage-stats"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", client_port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.5)
    yield f"ray://127.0.0.1:{client_port}"
    process.terminate()
    process.wait()


def test_a_cluster_that_was_started_elsewhere_is_joined_by_its_address(
    head: str,
) -> None:
    there, n_there = judged(head, "validation")
    here, n_here = judged(None, "validation")
    assert there == here and n_there > N * 0.9 and n_here == 0


def test_an_address_where_no_cluster_is_gets_one_line() -> None:
    with pytest.raises(UserError, match=r"no Ray cluster answers at '127.0.0.1:1'"):
        judged("127.0.0.1:1", "test")
