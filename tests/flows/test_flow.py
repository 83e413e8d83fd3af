"""flows/finetune.py over real DVC and a real Prefect server, in a toy repository of five stages."""

import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from toy_repository import PARAMS, edit, gone, load, ran, run, sh, stages, states_and_messages, wait_for


@pytest.fixture
def repo(repo_after_run: Path) -> Path:
    """Everything has run once, and may be changed."""
    return repo_after_run


def name_of(state: Any) -> str:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id).name


def cancel_when_hung(root: Path) -> list[int]:
    """Does what the UI's cancel button does, and returns the processes of the stage that then runs."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.states import Cancelling

    pids = [int(pid) for pid in wait_for(root / "pids.txt").split()]
    running = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING"]}}})
    with get_client(sync_client=True) as client:
        for flow_run in client.read_flow_runs(flow_run_filter=running):
            client.set_flow_run_state(flow_run.id, Cancelling())
    return pids


def test_a_first_run_completes_every_stage(toy_run: tuple[Path, Any]) -> None:
    root, state = toy_run
    assert (state.name, ran(root)) == (
        "Completed",
        ["base.txt", "pool-a.txt", "pool-b.txt", "report.json", "train.txt"],
    )
    assert stages(state) == dict.fromkeys(["base", "pool@a", "pool@b", "train", "report"], "Completed")


def test_a_run_is_named_and_tagged_by_what_it_does(toy: Path, tmp_path: Path, prefect_server: str) -> None:
    from prefect.client.orchestration import get_client

    root = Path(shutil.copytree(toy, tmp_path / "repo"))
    (root / "params.yaml").write_text(f"{PARAMS}tasks: [x, y]\npreset: mine\n")
    state = run(root, targets=["base"], tasks=["y"], overrides={"base.size": 4})
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(state.state_details.flow_run_id)
    assert re.fullmatch(r"base, tasks=\['y'\], base.size=4 \([a-z-]+\)", flow_run.name)
    assert flow_run.tags == ["preset:mine", "y"]


def test_two_workers_leave_the_dvc_lock_that_plain_dvc_repro_writes(
    toy_run: tuple[Path, Any], toy: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(toy, plain)
    sh("dvc", "repro", cwd=plain)
    assert (toy_run[0] / "dvc.lock").read_bytes() == (plain / "dvc.lock").read_bytes()


def test_a_second_run_starts_no_process_and_touches_no_file(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (repo / "dvc.lock").stat().st_mtime_ns
    monkeypatch.setattr(sys, "executable", "/bin/false")  # what the flow would start a stage with
    state = run(repo)
    assert (state.name, set(stages(state).values())) == ("Cached", {"Cached"})
    assert (repo / "dvc.lock").stat().st_mtime_ns == before


def test_an_override_runs_what_needs_it_and_without_it_all_is_restored(repo: Path) -> None:
    state = run(repo, overrides={"train.beta": 0.2})
    assert ran(repo) == ["report.json", "train.txt"]
    assert {name for name, value in stages(state).items() if value == "Cached"} == {"base", "pool@a", "pool@b"}
    state = run(repo)
    assert ran(repo) == ["report.json", "train.txt"]
    assert (stages(state)["train"], stages(state)["report"]) == ("Restored", "Restored")


@pytest.fixture
def repo_with_modules(repo: Path) -> Path:
    """Stage base depends on the code in code.py, comments apart, by way of a stage `modules`. Everything has run."""
    text = (repo / "dvc.yaml").read_text()
    text = text.replace("stages:\n", MODULES).replace("deps: [stage.py]\n", "deps: [stage.py, modules.txt]\n")
    (repo / "dvc.yaml").write_text(text)
    (repo / "code.py").write_text("x = 1\n")
    sh("dvc", "repro", cwd=repo)
    (repo / "ran.log").write_text("")
    return repo


MODULES = """\
stages:
  modules:
    cmd: echo modules >> ran.log; grep -v '^#' code.py > modules.txt
    deps: [code.py]
    outs: [modules.txt]
"""


def test_an_edited_comment_starts_no_process_for_any_stage_but_modules(repo_with_modules: Path) -> None:
    (repo_with_modules / "code.py").write_text("# a comment\nx = 1\n")
    state = run(repo_with_modules)
    assert ran(repo_with_modules) == ["modules"]
    others = dict.fromkeys(["base", "pool@a", "pool@b", "train", "report"], ("Cached", "up to date"))
    assert states_and_messages(state, 6) == {"modules": ("Completed", None), **others}


def test_edited_code_runs_the_stages_that_run_it(repo_with_modules: Path) -> None:
    (repo_with_modules / "code.py").write_text("x = 2\n")
    assert run(repo_with_modules).is_completed()
    assert ran(repo_with_modules) == ["base.txt", "modules"]  # the others: base.txt came out as before


def test_no_stage_runs_where_stage_modules_fails(repo_with_modules: Path) -> None:
    (repo_with_modules / "code.py").write_text("# nothing else\n")  # grep finds nothing: status 1
    state = run(repo_with_modules)
    assert state.is_failed() and ran(repo_with_modules) == ["modules"]
    assert stages(state, 6)["base"] == "NotReady"


def test_a_failed_stage_fails_the_run_and_stops_only_what_needs_it(repo: Path) -> None:
    edit(repo, "beta: 0.1", "beta: 0.3")
    edit(repo, "n: 2", "n: 0")
    state = run(repo)
    message = "pool: 0 programs were asked for; at least 1 is expected. Raise pool.n."
    assert (state.type.value, state.message) == ("FAILED", message)
    assert name_of(state).endswith(f": {message}")
    failed = {"pool@a": "Failed", "pool@b": "Failed", "train": "NotReady", "report": "NotReady"}
    assert stages(state) == {"base": "Cached", **failed}


def test_a_stage_without_its_output_fails_in_the_words_of_dvc(repo: Path) -> None:
    dvc_yaml = (repo / "dvc.yaml").read_text().replace("outs: [train.txt]", "outs: [train.txt, other.txt]")
    (repo / "dvc.yaml").write_text(dvc_yaml)
    assert "output 'other.txt' does not exist" in run(repo, targets=["train"]).message


def test_a_stage_that_takes_too_long_is_killed_with_its_grandchildren(repo: Path) -> None:
    state = run(repo, overrides={"train.hang": True}, timeout_s=8)
    pids = [int(pid) for pid in wait_for(repo / "pids.txt").split()]
    assert stages(state)["train"] == "TimedOut"
    assert state.message == "train: not done after 8 s, stopped. Raise timeout_s if that is too few."
    assert gone(pids, within_s=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_of_a_stage_outlives_the_flow_by_5_s(repo: Path, prefect_server: str, number: int) -> None:
    command = [sys.executable, "flows/finetune.py", "--set", "train.hang=true", "train"]
    with (repo / "out.log").open("w") as out:
        flow = subprocess.Popen(
            command,
            cwd=repo,
            env=os.environ | {"PREFECT_API_URL": prefect_server},
            stdout=out,
            stderr=out,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored under `nohup`, `&`
        )
    pids = [int(pid) for pid in wait_for(repo / "pids.txt").split()]
    stage = [each.pid for each in psutil.Process(flow.pid).children(recursive=True)]
    assert set(pids) <= set(stage)
    flow.send_signal(number)
    assert gone(stage, within_s=5)
    assert flow.wait(timeout=20) == (-number if number == signal.SIGKILL else 130)
    assert "train | train: 1 of 1\n" in (repo / "out.log").read_text()


def test_a_run_cancelled_in_the_ui_stops_its_stages_and_ends_cancelled(repo: Path) -> None:
    with ThreadPoolExecutor() as pool:
        later = pool.submit(cancel_when_hung, repo)
        state = run(repo, overrides={"train.hang": True})
        assert gone(later.result(), within_s=0)
    assert (state.name, stages(state)["train"]) == ("Cancelled", "Cancelled")


def test_the_script_ends_with_the_error_of_the_stage_and_status_1(repo: Path, prefect_server: str) -> None:
    command = [sys.executable, "flows/finetune.py", "--workers", "1", "--set", "pool.n=0", "pool@b"]
    env = os.environ | {"PREFECT_API_URL": prefect_server}
    done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "pool: 0 programs were asked for; at least 1 is expected. Raise pool.n.\n"
    assert [line.split()[:2] for line in done.stdout.splitlines()[-2:]] == [["base", "Cached"], ["pool@b", "Failed"]]


def test_an_unknown_override_is_refused_with_the_nearest_name(repo: Path) -> None:
    state = run(repo, overrides={"pool.n": 3, "train.betta": 0.2})
    assert (
        state.message
        == "--set or the form, with the names of params.yaml: there is no 'train.betta'; did you mean 'train.beta'?"
    )
    assert (repo / "params.yaml").read_text() == PARAMS


def test_values_that_the_package_refuses_stop_the_run_and_are_taken_back(repo: Path) -> None:
    (repo / "src/dartune").mkdir(parents=True)  # what the flow looks for
    (repo / "src/dartune/cli.py").touch()
    (repo / "dartune").mkdir()  # what `python -m dartune.cli` finds first in this folder
    (repo / "dartune/cli.py").write_text("import sys; sys.exit('train.beta: -1 was found; above 0 is expected')")
    (repo / "dartune/__init__.py").touch()
    state = run(repo, overrides={"train.beta": -1})
    refusal = "train.beta: -1 was found; above 0 is expected"
    assert state.message == refusal
    assert (repo / "params.yaml").read_text() == PARAMS
    assert ran(repo) == []
    assert run(repo).name == "Cached"  # nothing to run, so nothing to check
    (repo / "params.yaml").write_text("train: [")  # where DVC makes no plan, the check may know why
    assert run(repo).message == refusal


def test_the_plan_is_the_graph_of_dvc_with_what_may_be_out_of_date(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo)
    edit(repo, "beta: 0.1", "beta: 0.4")
    steps = load(repo).plan([])
    assert steps == [
        ("base", [], False, []),
        ("pool@a", ["base"], False, []),
        ("pool@b", ["base"], False, []),
        ("train", ["pool@a"], True, []),
        ("report", ["train"], True, []),
    ]
    assert [step.stage for step in load(repo).plan(["pool"])] == ["base", "pool@a", "pool@b"]


HOLD = """
import fcntl, sys, time
with open(".dvc/tmp/lock", "a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    time.sleep(3)
"""


def test_a_run_says_that_it_waits_for_a_dvc_command(repo: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(repo).is_completed()
    (repo / ".dvc/tmp").mkdir(exist_ok=True)
    with subprocess.Popen([sys.executable, "-c", HOLD], cwd=repo, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        assert run(repo).is_completed()
    words = "waiting for a DVC command that is at work in this folder"
    assert [record.getMessage() for record in caplog.records].count(words) == 1
