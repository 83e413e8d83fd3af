"""What the environment holds stays there: no secret is in what a run writes, and only loopback is listened on."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pyarrow.parquet as pq
import pytest

from completion_server import Answer, body, described, faulty, sent
from project_copy import ROOT, TASK, copy_project, run, set_params

sys.path.insert(0, str(ROOT / "flows"))

from server import Server

CHANCE = uuid4().hex  # not in this file, which is copied too
PLANTED = {
    "SERVER_KEY": f"sk-planted-{CHANCE}",
    "AWS_SECRET_ACCESS_KEY": f"aws-planted-{CHANCE}",
    "DARTUNE_NOTIFY_URL": f"https://hooks.example.org/planted-{CHANCE}",
}
DVC_YAML = """\
stages:
  good: {cmd: echo done > good.txt, outs: [good.txt]}
  bad: {cmd: echo 'it went wrong' >&2; exit 3, deps: [good.txt], outs: [bad.txt]}
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository of two stages, the second of which fails, with the flow."""
    root = tmp_path / "repo"
    shutil.copytree(ROOT / "flows", root / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.toml", root)
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "params.yaml").write_text("n: 1\n")
    (root / ".gitignore").write_text("/.prefect/\n/.work/\n__pycache__/\n")
    for words in (["git", "init", "-q"], ["git", "config", "user.name", "t"], ["git", "config", "user.email", "t@t"]):
        run(root, *words)
    run(root, "dvc", "init", "-q")
    return root


def written(root: Path) -> dict[str, bytes]:
    """Every file below the folder, git's objects and Parquet unpacked, and Prefect's database with its WAL."""
    found = {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
    for name in [name for name, text in found.items() if text.startswith(b"PAR1")]:  # DVC's cache has no suffixes
        found[f"{name} unpacked"] = str(pq.read_table(root / name).to_pylist()).encode()
    batch = ["git", "cat-file", "--batch-all-objects", "--batch"]
    found["git objects"] = subprocess.run(batch, cwd=root, capture_output=True, check=True).stdout
    with sqlite3.connect(root / ".prefect/prefect.db") as database:
        found["database"] = "\n".join(database.iterdump()).encode(errors="replace")
    return found


def fly(root: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """The flow with a server of its own and the secrets in its environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"} | PLANTED
    command = [sys.executable, "flows/finetune.py", *words]
    return subprocess.run(command, cwd=root, env=environment | {"PATH": path}, capture_output=True)


def leaks(found: dict[str, bytes]) -> list[tuple[str, str]]:
    return [(name, key) for name, text in found.items() for key in PLANTED if PLANTED[key].encode() in text]


def test_a_failing_run_writes_no_secret_of_the_environment_anywhere(repo: Path) -> None:
    done = fly(repo)
    assert done.returncode == 1 and b"it went wrong" in done.stdout + done.stderr
    run(repo, "git", "add", "-A")
    run(repo, "git", "commit", "-qm", "run")
    found = written(repo) | {"stdout": done.stdout, "stderr": done.stderr}
    assert b"it went wrong" in found["database"] and b"good" in found["git objects"]  # the search would find it
    assert leaks(found) == []


def echo(status: int) -> Answer:
    """Repeats the key that it was sent, as a completion or in an error."""

    def answer(handler: Any, _: dict[str, Any]) -> None:
        text = f"you are {handler.headers['Authorization']}"
        content = body(text) if status == 200 else {"error": {"message": text, "type": text, "code": text}}
        sent(handler, status, json.dumps(content).encode(), X_Echo=text)

    return answer


def test_a_pool_from_a_server_that_repeats_the_key_has_it_nowhere(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    copy_project(root, [TASK])
    with faulty(*[echo(200)] * 60, echo(400)) as server:
        described(root, url=server.url, key="SERVER_KEY")
        set_params(root, {"pool": {"source": "server.yaml", "n_programs": 60}})
        good = fly(root, f"score@{TASK}")
        set_params(root, {"pool": {"seed": 1}})
        bad = fly(root, f"score@{TASK}")
    assert server.authorizations[0] == f"Bearer {PLANTED['SERVER_KEY']}"
    assert (good.returncode, bad.returncode) == (0, 1) and b"answered HTTP 400" in bad.stderr
    found = written(root) | {f"said {i}": run.stdout + run.stderr for i, run in enumerate((good, bad))}
    unpacked = b"".join(text for name, text in found.items() if name.endswith(" unpacked"))
    assert b"you are Bearer [key]" in unpacked and b"HTTP 400" in found["database"]  # the search would find it
    assert leaks(found) == []


def test_the_server_of_a_run_listens_on_loopback_alone(repo: Path) -> None:
    with chdir(repo):
        server = Server()
    try:
        with chdir(repo):
            server.wait()
        process = psutil.Process(server.supervised.process.pid)
        family = [process, *process.children(recursive=True)]
        listening = [each.laddr.ip for p in family for each in p.net_connections() if each.status == "LISTEN"]
        assert set(listening) == {"127.0.0.1"}
    finally:
        server.end()
