"""Overrides of a run: they hold while it runs, and are taken back however it ends."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from toy_repository import FLOWS, PARAMS, edit, gone, ran, run, stages, wait_for

sys.path.insert(0, str(FLOWS))

import overrides

HANGING = PARAMS.replace("hang: false", "hang: true")


@pytest.fixture
def repo(repo_after_run: Path) -> Path:
    """Everything has run once, and may be changed."""
    return repo_after_run


def hanging(root: Path, server: str) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A run with the override train.hang, begun by hand, and the processes of its stage."""
    environment = os.environ | {"PREFECT_API_URL": server}
    with (root / "out.log").open("w") as out:
        command = [sys.executable, "flows/finetune.py", "--set", "train.hang=true", "train"]
        flow = subprocess.Popen(command, cwd=root, env=environment, stdout=out, stderr=out)
    return flow, [int(pid) for pid in wait_for(root / "pids.txt").split()]


def test_an_override_holds_for_its_run_and_the_next_one_is_as_committed(repo: Path) -> None:
    lock = (repo / "dvc.lock").read_bytes()
    assert run(repo, overrides={"train.beta": 0.2, "train.lora": {"r": 16}, "pool.lengths": [3]}).is_completed()
    assert "0.2" in (repo / "train.txt").read_text()
    assert (repo / "params.yaml").read_text() == PARAMS and (repo / "dvc.lock").read_bytes() != lock
    assert set(stages(run(repo)).values()) == {"Cached", "Restored"}
    assert (repo / "dvc.lock").read_bytes() == lock


def test_what_a_preset_sets_holds_for_a_run_that_chooses_it(repo: Path) -> None:
    (repo / "presets").mkdir()
    (repo / "presets/mine.yaml").write_text("params: {train.beta: 0.2, pool.n: 3}\n")
    (repo / "params.yaml").write_text(with_preset := PARAMS + "preset: other\n")
    assert run(repo, preset="mine", overrides={"pool.n": 4}).is_completed()
    result = (repo / "train.txt").read_text()
    assert "'beta': 0.2" in result and "'n': 4" in result
    assert (repo / "params.yaml").read_text() == with_preset


def test_an_override_of_a_run_that_fails_is_taken_back(repo: Path) -> None:
    assert run(repo, overrides={"pool.n": 0}).is_failed()
    assert (repo / "params.yaml").read_text() == PARAMS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_override_of_a_run_that_is_stopped_is_taken_back(repo: Path, prefect_server: str, number: int) -> None:
    flow, pids = hanging(repo, prefect_server)
    assert (repo / "params.yaml").read_text() == HANGING
    flow.send_signal(number)
    assert flow.wait(timeout=20) == 130
    assert (repo / "params.yaml").read_text() == PARAMS and gone(pids, within_s=0)


def test_an_override_of_a_killed_run_is_taken_back_by_the_next_in_a_line(repo: Path, prefect_server: str) -> None:
    flow, _ = hanging(repo, prefect_server)
    flow.kill()
    flow.wait()
    assert (repo / "params.yaml").read_text() == HANGING
    command = [sys.executable, "flows/finetune.py"]
    environment = os.environ | {"PREFECT_API_URL": prefect_server}
    second = subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True)
    lines = second.stdout.splitlines()  # it may first have to wait for the end of the killed run's stage
    assert "params.yaml: train.hang as before a run that was killed" in lines[:3]
    assert (repo / "params.yaml").read_text() == PARAMS and ran(repo) == ["train.txt"]


def test_what_is_edited_during_a_run_stays_and_the_override_goes(repo: Path, prefect_server: str) -> None:
    with ThreadPoolExecutor() as pool:
        later = pool.submit(run, repo, overrides={"train.hang": 8, "train.beta": 0.2})
        wait_for(repo / "pids.txt")
        edit(repo, "size: 3", "size: 5")
        edit(repo, "beta: 0.2", "beta: 0.3")  # an edit of what is overridden wins
        assert later.result().is_completed()
    assert (repo / "params.yaml").read_text() == PARAMS.replace("size: 3", "size: 5").replace("beta: 0.1", "beta: 0.3")


@pytest.mark.parametrize(
    ("edited", "left"),
    [
        ("train: {b: 2}\nother: 1\n", "train: {b: 2}\nother: 1\n"),  # the name is gone
        ("other: 1\n", "other: 1\n"),  # its section is gone
        ("# mine\ntrain: {a: null, b: 3}\n", "# mine\ntrain: {a: 1, b: 3}\n"),
        ("train: {a: 1, b: 2}\n", "train: {a: 1, b: 2}\n"),  # taken back by hand
    ],
)
def test_an_edit_wins_over_what_a_killed_run_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: str, left: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".work").mkdir()
    Path("params.yaml").write_text("train: {a: 1, b: 2}\n")
    with overrides.applied({"train.a": None}):
        assert Path("params.yaml").read_text() == "train: {a: null, b: 2}\n"
        Path("params.yaml").write_text(edited)
    assert Path("params.yaml").read_text() == left and not overrides.JOURNAL.exists()


def test_a_run_of_some_stages_shows_no_table_and_names_what_is_out_of_date(repo: Path, prefect_server: str) -> None:
    (repo / "report").mkdir()
    (repo / "report/summary.txt").write_text("base against tuned\n")
    command = [sys.executable, "flows/finetune.py"]
    environment = os.environ | {"PREFECT_API_URL": prefect_server}
    words = {"partial": ["--set", "train.beta=0.2", "train"], "same": ["train"], "whole": ["--set", "train.beta=0.2"]}
    said = {
        name: subprocess.run([*command, *more], cwd=repo, env=environment, capture_output=True, text=True).stdout
        for name, more in words.items()
    }
    last = "no table, as these are out of date: report. A run without STAGE brings them up to date.\n"
    assert said["partial"].endswith(last) and "base against tuned" not in said["partial"]
    assert "base against tuned" in said["same"] and "base against tuned" in said["whole"]
