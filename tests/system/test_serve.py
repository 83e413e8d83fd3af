"""`make serve` on the toy repository."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from served_toy import Box, served


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with served(tmp_path_factory.mktemp("toy") / "repo") as box:
        yield box


def test_a_deployed_run_completes_and_commits_on_its_branch(box: Box) -> None:
    found = box.prefect("deployment", "ls")
    assert all(f"finetune/{name}" in found for name in ("nightly", "on-demand", "gpu", "on-change", "from-git"))
    said = box.prefect("deployment", "run", "finetune/on-demand", "--param", "branch=runs", "--watch")
    assert "Completed" in said
    show = ["git", "log", "--format=%s", "-1", "runs"]
    assert subprocess.run(show, cwd=box.root, capture_output=True, text=True).stdout.startswith("Run ")


def test_a_run_starts_in_a_fresh_clone(box: Box) -> None:
    before, words = (box.root / "ran.log").read_text(), ("--param", "pull=false", "--param", "push=false")
    said = box.prefect("deployment", "run", "finetune/from-git", *words, "--watch")
    assert "Completed" in said and (box.root / "ran.log").read_text() == before


def test_a_mistake_in_an_override_is_one_line_without_a_traceback(box: Box) -> None:
    words = ("deployment", "run", "finetune/on-demand", "--param", 'overrides={"train.betta": 1}', "--watch")
    box.prefect(*words, returncode=1)
    assert "there is no 'train.betta'; did you mean 'train.beta'?" in (box.root / "serve.log").read_text()
    assert "Traceback" not in (box.root / "serve.log").read_text()


def test_it_listens_on_loopback_alone(box: Box) -> None:
    listening = [c.laddr for p in box.tree() for c in p.net_connections() if c.status == "LISTEN"]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {box.port, box.port + 1} <= {address.port for address in listening}


def test_a_killed_worker_takes_its_run_with_it(box: Box) -> None:
    box.prefect("deployment", "run", "finetune/on-demand", "--param", 'overrides={"train.hang": true}')
    box.until((box.root / "pids.txt").exists, 120)
    everything = box.tree()
    worker = next(p for p in everything if p.cmdline()[1:4] == ["-m", "prefect", "worker"])
    worker.kill()
    box.process.wait(timeout=60)
    _, left = psutil.wait_procs(everything, timeout=20)
    assert [p.cmdline() for p in left if p.status() != psutil.STATUS_ZOMBIE] == []
