"""`make serve` on the toy repository: server, worker and deployments as a user has them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from toy_project import FLOWS, make_toy

START_S = 240


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_toy(tmp_path_factory.mktemp("toy") / "repo")
    for name in ("prefect.yaml", "prefect.toml"):
        shutil.copy(FLOWS.parent / name, root)
    return root


def until(holds, within_s: float, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.2)


@pytest.fixture(scope="module")
def box(toy: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The script, serving on ports that are not the default ones."""
    command = [sys.executable, "flows/serve.py", "--port", "4377"]
    with (toy / "serve.log").open("w") as out:
        process = subprocess.Popen(command, cwd=toy, stdout=out, stderr=out)
    until(lambda: "serving: local" in (toy / "serve.log").read_text(), START_S, process)
    yield process
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)


def prefect(toy: Path, *words: str) -> str:
    environment = os.environ | {"PREFECT_API_URL": "http://127.0.0.1:4377/api"}
    command = [sys.executable, "-m", "prefect", *words]
    done = subprocess.run(command, cwd=toy, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_deployed_run_completes_and_commits_on_its_branch(toy: Path, box: subprocess.Popen[bytes]) -> None:
    found = prefect(toy, "deployment", "ls")
    assert all(f"finetune/{name}" in found for name in ("nightly", "on-demand", "gpu", "on-change"))
    said = prefect(toy, "deployment", "run", "finetune/on-demand", "--param", "branch=runs", "--watch")
    assert "Completed" in said
    log = subprocess.run(["git", "log", "--format=%s", "-1", "runs"], cwd=toy, capture_output=True, text=True).stdout
    assert log.startswith("Run ")


def test_it_listens_on_loopback_alone(box: subprocess.Popen[bytes]) -> None:
    listening = [c.laddr for p in tree(box) for c in p.net_connections() if c.status == "LISTEN"]
    assert {address.ip for address in listening} == {"127.0.0.1"} and {4377, 4378} <= {a.port for a in listening}


def test_a_killed_worker_takes_its_run_with_it(toy: Path, box: subprocess.Popen[bytes]) -> None:
    prefect(toy, "deployment", "run", "finetune/on-demand", "--param", 'overrides={"train.hang": true}')
    until((toy / "pids.txt").exists, 120, box)
    everything = tree(box)
    worker = next(p for p in everything if p.cmdline()[1:4] == ["-m", "prefect", "worker"])
    worker.kill()
    box.wait(timeout=60)
    _, left = psutil.wait_procs(everything, timeout=20)
    assert [p.cmdline() for p in left if p.status() != psutil.STATUS_ZOMBIE] == []


def tree(box: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(box.pid).children(recursive=True)
