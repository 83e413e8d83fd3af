"""Runs beside each other in one folder, and what is done with a run's results; over real Git, DVC and Prefect."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from toy_repository import PARAMS, edit, gone, load, ran, run, sh, stages, wait_for


@pytest.fixture
def repo(toy: Path, tmp_path: Path, prefect_server: str) -> Path:
    """Nothing has run yet."""
    return Path(shutil.copytree(toy, tmp_path / "repo"))


def git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def flow(root: Path, server: str, *words: str) -> subprocess.Popen[bytes]:
    return started(root, os.environ | {"PREFECT_API_URL": server}, *words)


def by_itself(root: Path, *words: str) -> subprocess.Popen[bytes]:
    """A run with a server of its own."""
    return started(root, {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}, *words)


def started(root: Path, environment: dict[str, str], *words: str) -> subprocess.Popen[bytes]:
    with (root / "out.log").open("a") as out:
        return subprocess.Popen(
            [sys.executable, "flows/finetune.py", *words], cwd=root, env=environment, stdout=out, stderr=out
        )


def states(server: str) -> dict[str, tuple[str, str | None]]:
    """Name and message of every flow run's state, by the run's id, oldest first."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_ASC)
    return {str(run.id): (str(run.state.name), run.state.message) for run in runs if run.state}


def log_of(root: Path) -> str:
    return (root / "out.log").read_text()


def until(holds: Any, within_s: float = 90) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.2)


def test_a_second_run_waits_and_goes_on_where_a_killed_one_stopped(repo: Path, prefect_server: str) -> None:
    before = states(prefect_server)
    first = flow(repo, prefect_server, "--set", "train.hang=true", "train")
    pids = [int(pid) for pid in wait_for(repo / "pids.txt", 120).split()]
    second = flow(repo, prefect_server, "train")
    until(lambda: any(name == "Waiting" for name, _ in states(prefect_server).values()))
    waiting = re.search(
        r"^waiting for run train, train.hang=True \(\S+\) \(process (\d+)\)", log_of(repo), re.MULTILINE
    )
    assert waiting and int(waiting[1]) == first.pid
    assert second.poll() is None and all(map(lambda pid: not gone([pid], 0), pids))
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.wait(timeout=120) == 0
    assert gone(pids, within_s=0)
    new = [state for run, state in states(prefect_server).items() if run not in before]
    assert ("Crashed", "killed: its process was gone, and the next run went on from there") in new
    assert [name for name, _ in new].count("Completed") == 1
    assert ran(repo).count("base.txt") == 1  # the first run's work was not lost


def test_a_killed_supervisor_ends_dvc_and_the_stage_and_fails_the_run(repo: Path, prefect_server: str) -> None:
    running = flow(repo, prefect_server, "--set", "train.hang=true", "train")
    pids = [int(pid) for pid in wait_for(repo / "pids.txt", 120).split()]
    supervisor = next(
        each for each in psutil.Process(running.pid).children() if "flows/supervisor.py" in " ".join(each.cmdline())
    )
    below = [each.pid for each in supervisor.children(recursive=True)]
    assert set(pids) <= set(below)
    supervisor.kill()
    assert gone(below, within_s=20)
    assert running.wait(timeout=60) == 1
    assert run(repo, targets=["train"]).is_completed()


def test_a_killed_server_comes_back_and_the_run_completes(repo: Path) -> None:
    edit(repo, "n: 2", "n: 2\n  hang: 8")
    running = by_itself(repo, "pool")
    wait_for(repo / "pids.txt", 120)
    family = psutil.Process(running.pid).children(recursive=True)
    next(each for each in family if "uvicorn" in each.cmdline()).kill()
    assert running.wait(timeout=240) == 0
    assert "Traceback" not in (repo / "out.log").read_text()


def test_runs_with_servers_of_their_own_take_turns(repo: Path) -> None:
    assert by_itself(repo, "base").wait(timeout=240) == 0
    both = [by_itself(repo) for _ in range(2)]
    assert [each.wait(timeout=240) for each in both] == [0, 0]
    assert len(ran(repo)) == len(set(ran(repo))) > 4  # the one that came later saw what the other had done
    assert "Traceback" not in (repo / "out.log").read_text()


def test_a_dvc_yaml_that_does_not_parse_is_named_in_one_line(repo: Path, prefect_server: str) -> None:
    (repo / "dvc.yaml").write_text("stages: [")
    assert flow(repo, prefect_server).wait(timeout=240) == 1
    (line,) = (repo / "out.log").read_text().splitlines()
    assert "dvc.yaml" in line


BROKEN_LOCKS = {
    "half": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "other": lambda text: text.replace("stages:", "stages: 3\nx:"),
}


@pytest.mark.parametrize("kind", BROKEN_LOCKS)
def test_a_damaged_dvc_lock_is_named_with_what_to_do(repo: Path, kind: str) -> None:
    assert run(repo, targets=["base"]).is_completed()
    (repo / "dvc.lock").write_text(BROKEN_LOCKS[kind]((repo / "dvc.lock").read_text()))
    message = run(repo).message
    assert message.startswith("dvc.lock: DVC cannot read it (") and "`git checkout dvc.lock`" in message
    assert "\n" not in message and ran(repo) == ["base.txt"]


def test_a_merge_conflict_in_dvc_lock_is_named_with_what_to_do(repo: Path) -> None:
    for branch, beta in (("one", "0.2"), ("other", "0.3")):
        sh("git", "checkout", "-qb", branch, cwd=repo)
        sh("git", "reset", "-q", "--hard", "HEAD" if branch == "one" else "HEAD~1", cwd=repo)
        edit(repo, "beta: 0.1", f"beta: {beta}")
        assert run(repo).is_completed()
        sh("git", "add", "-A", cwd=repo)
        sh("git", "commit", "-qm", branch, cwd=repo)
    assert subprocess.run(["git", "merge", "-q", "one"], cwd=repo, capture_output=True).returncode == 1
    sh("git", "checkout", "--theirs", "params.yaml", "report.json", cwd=repo)
    n = len(ran(repo))
    message = run(repo).message
    assert message.startswith("dvc.lock: there is a merge conflict in it; `git checkout --ours dvc.lock`")
    sh("git", "checkout", "--ours", "dvc.lock", cwd=repo)
    assert set(stages(run(repo)).values()) == {"Cached", "Restored"} and len(ran(repo)) == n


def test_a_server_that_cannot_be_reached_is_told_in_one_line(repo: Path) -> None:
    assert flow(repo, "http://127.0.0.1:9/api", "base").wait(timeout=240) == 1
    (line,) = (repo / "out.log").read_text().splitlines()
    assert line.startswith("prefect: no server at http://127.0.0.1:9/api (")


def test_results_are_committed_on_a_branch_that_nobody_stands_on(repo: Path) -> None:
    head, status = git(repo, "rev-parse", "HEAD"), git(repo, "status", "--porcelain")
    assert run(repo, branch="runs").is_completed()
    assert git(repo, "rev-parse", "HEAD") == head and git(repo, "branch", "--show-current") != "runs"
    assert "dvc.lock" in git(repo, "show", "--stat", "runs")
    assert git(repo, "show", "runs:report.json") == (repo / "report.json").read_text()
    assert git(repo, "diff", "--cached", "--name-only") == "" and status == ""
    assert run(repo, branch="runs", overrides={"train.beta": 0.2}).is_completed()
    assert "beta: 0.2" in git(repo, "show", "runs:params.yaml") and (repo / "params.yaml").read_text() == PARAMS
    assert run(repo, branch="runs").is_completed()  # as the first one
    assert git(repo, "diff", "--stat", "runs~2", "runs") == ""
    assert run(repo, branch="runs").name == "Cached"  # nothing new: no commit
    assert git(repo, "rev-list", "--count", f"{head}..runs") == "3"


def test_a_checked_out_or_invalid_branch_is_refused_before_anything_runs(repo: Path) -> None:
    here = git(repo, "branch", "--show-current")
    assert f"branch: {here} is checked out" in run(repo, branch=here).message
    assert run(repo, branch="a b").message == "branch: 'a b' is no name of a branch; runs is one"
    assert not (repo / "ran.log").exists()


def test_following_a_remote_branch_fast_forwards_and_never_loses_work(repo: Path) -> None:
    upstream = repo.with_name("upstream")
    sh("git", "clone", "-q", str(repo), str(upstream), cwd=repo)
    here = git(repo, "branch", "--show-current")
    sh("git", "remote", "add", "origin", str(upstream), cwd=repo)
    edit(upstream, "beta: 0.1", "beta: 0.7")
    sh("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "beta", cwd=upstream)
    assert run(repo, follow=f"origin/{here}", targets=["base"]).is_completed()
    assert "beta: 0.7" in (repo / "params.yaml").read_text()
    edit(upstream, "beta: 0.7", "beta: 0.8")
    sh("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "beta", cwd=upstream)
    edit(repo, "beta: 0.7", "beta: 0.9")  # not committed: it would be lost
    assert f"follow: origin/{here} cannot be reached by fast-forward" in run(repo, follow=f"origin/{here}").message
    assert "beta: 0.9" in (repo / "params.yaml").read_text()
    assert "names no branch of a remote" in run(repo, follow="elsewhere/main").message


def test_what_is_new_is_sent_to_the_remote_and_without_one_nothing_runs(repo: Path) -> None:
    words = "push, pull: DVC has no default remote; name one: `dvc remote add --default NAME URL`"
    assert run(repo, push=True).message == words and not (repo / "ran.log").exists()
    remote = repo.with_name("remote")
    sh("dvc", "remote", "add", "-q", "--default", "box", str(remote), cwd=repo)
    state = run(repo, push=True, targets=["train"])
    assert state.is_completed() and stages(state).get("push") == "Completed"
    other = repo.with_name("other")
    sh("git", "clone", "-q", str(repo), str(other), cwd=repo)
    for name in ("dvc.lock", ".dvc/config"):
        (other / name).write_bytes((repo / name).read_bytes())
    assert run(other, pull=True, targets=["train"]).is_completed()
    assert not (other / "ran.log").exists()


def test_outputs_in_a_folder_that_a_stage_reads_are_fetched_too(repo: Path) -> None:
    (repo / "dvc.yaml").write_text(
        "stages:\n"
        "  part: {cmd: echo part >> ran.log; echo 1 > folder/part.txt, outs: [folder/part.txt]}\n"
        "  whole: {cmd: cat folder/*.txt > whole.txt, deps: [folder], params: [base], outs: [whole.txt]}\n"
    )
    (repo / "folder").mkdir()
    sh("dvc", "remote", "add", "-q", "--default", "box", str(repo.with_name("remote")), cwd=repo)
    assert run(repo, push=True).is_completed()
    sh("git", "add", "-A", cwd=repo)
    sh("git", "commit", "-qm", "whole", cwd=repo)
    other = repo.with_name("other")
    sh("git", "clone", "-q", str(repo), str(other), cwd=repo)
    edit(other, "size: 3", "size: 4")
    state = run(other, targets=["whole"], pull=True)
    assert state.is_completed() and not (other / "ran.log").exists()
    assert (other / "whole.txt").read_text() == "1\n"


def test_a_push_is_tried_again_unless_the_remote_would_say_the_same(repo: Path) -> None:
    from prefect.states import Failed

    load(repo)
    from push import is_temporary

    again = ["failed to push data to the cloud - 3 files failed to upload", "Connection reset by peer", "timed out"]
    final = ["An error occurred (AccessDenied)", "Unable to locate credentials", "config file error: no remote"]
    assert [is_temporary(None, None, Failed(message=words)) for words in again + final] == [True] * 3 + [False] * 3


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The bodies posted to DARTUNE_NOTIFY_URL, whose first answer is 500."""
    bodies: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(500 if len(bodies) == 1 else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("DARTUNE_NOTIFY_URL", f"http://127.0.0.1:{server.server_port}/secret")
    yield bodies
    server.shutdown()


def test_a_webhook_is_told_of_failed_runs_only_and_again_after_an_error(repo: Path, hook: list[str]) -> None:
    assert run(repo, targets=["base"]).is_completed() and hook == []
    edit(repo, "n: 2", "n: 0")
    assert run(repo, targets=["pool@b"]).is_failed()
    assert len(hook) == 2 and hook[0] == hook[1]
    assert "is Failed: pool: 0 programs were asked for; at least 1 is expected. Raise pool.n." in hook[1]


def test_a_webhook_hears_of_a_killed_run_from_the_next_one(repo: Path, prefect_server: str, hook: list[str]) -> None:
    killed = flow(repo, prefect_server, "--set", "train.hang=true", "train")
    pids = [int(pid) for pid in wait_for(repo / "pids.txt", 120).split()]
    killed.kill()
    killed.wait()
    assert gone(pids, within_s=20)
    assert run(repo, targets=["base"]).is_completed()
    assert "is Crashed: killed: its process was gone, and the next run went on from there" in hook[-1]


def test_a_stage_shows_its_progress_and_the_run_its_stages(repo: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    state = run(repo, targets=["train"])
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        found = {artifact.key: artifact for artifact in client.read_artifacts(artifact_filter=mine)}
    assert (found["train"].type, found["train"].data) == ("progress", 100.0)
    assert [row["stage"] for row in json.loads(found["stages"].data)] == ["base", "pool@a", "train"]
    assert all(artifact.description for artifact in found.values())
    said = "No metric differs from the last commit. Out of date, and not of this run: pool@b, report."
    assert (json.loads(found["metrics"].data), found["metrics"].description) == ([], said)


def test_parameters_of_a_run_are_documented_for_the_form(repo: Path) -> None:
    flow = load(repo).finetune
    schema = flow.parameters.model_dump()["properties"]
    assert all(its.get("description") for its in schema.values()), schema
    assert schema["workers"]["minimum"] == 1 and schema["push"]["type"] == "boolean"
    assert (repo / "params.yaml").read_text() == PARAMS
