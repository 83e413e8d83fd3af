"""Tasks that lie outside the package: in params.yaml's task_folder, or in an installed package."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dartune.tasks
from dartune.errors import UserError
from dartune.files.modules import code_fingerprint, judging
from dartune.referee.referee import Referee
from dartune.tasks.contract import check_task
from dartune.tasks.task import Task, names
from dartune.validation import check_tasks

NAME = "outside"
PARAMS = Path("params.yaml")


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a copy of tsp_construct, whose lengths come from a helper; the test runs beside it."""
    folder = tmp_path / "mine"
    shutil.copytree(Task("tsp_construct").folder, folder / NAME, ignore=shutil.ignore_patterns("__pycache__"))
    cost = (folder / NAME / "cost.py").read_text()
    (folder / NAME / "cost.py").write_text(
        f"from .units import FACTOR\n{cost}".replace("lengths.", "(FACTOR * lengths).")
    )
    (folder / NAME / "units.py").write_text("FACTOR = 1.0\n")
    monkeypatch.setattr(dartune.tasks, "__path__", [*dartune.tasks.__path__])
    monkeypatch.chdir(tmp_path)
    yield folder
    code_fingerprint.cache_clear()
    for name in [name for name in sys.modules if name.startswith(f"dartune.tasks.{NAME}")]:
        del sys.modules[name]


def test_a_task_in_the_folder_of_params_is_judged_as_one_of_ours(tasks: Path) -> None:
    with pytest.raises(UserError, match=f"no task '{NAME}'"):
        Task(NAME)
    PARAMS.write_text("task_folder: mine\n")
    assert NAME in names() and "tsp_construct" in names()
    check_task(NAME)
    template, ours = Task(NAME).template, Task("tsp_construct")
    with Referee(Task(NAME), "train", max_slowdown=1000, memory_mib=512) as referee:
        (verdict,) = referee.judge([template])
    with Referee(ours, "train", max_slowdown=1000, memory_mib=512) as referee:
        assert referee.judge([template])[0].costs == verdict.costs
    assert sorted(path.name for path in (tasks / NAME).iterdir() if path.is_dir()) == []  # no __pycache__


@pytest.mark.parametrize("failure", ["raise SystemExit(3)", "raise ValueError(3)"])
def test_a_template_that_fails_ends_the_referee_in_one_line(tasks: Path, failure: str) -> None:
    PARAMS.write_text("task_folder: mine\n")
    file = tasks / NAME / "template.py"
    file.write_text(file.read_text().replace("return unvisited_nodes[0]", failure))
    message = f"{NAME}: the template program is runtime: {failure[6:-3]}: 3"
    with pytest.raises(UserError, match=message), Referee(Task(NAME), "train", max_slowdown=9, memory_mib=512):
        pass


def test_what_decides_verdicts_is_every_module_and_data_file(tasks: Path) -> None:
    folder = tasks / NAME
    (folder / "cities.txt").write_text("50\n")
    files = ["benchmark.json", "cities.txt", "cost.py", "instances.py", "rollout.py", "units.py"]
    assert [file.name for file in judging(folder)] == files
    seen = {code_fingerprint(*judging(folder))}
    for file, text in (("units.py", "FACTOR = 2.0\n"), ("cities.txt", "51\n")):
        code_fingerprint.cache_clear()
        (folder / file).write_text(text)
        seen.add(code_fingerprint(*judging(folder)))
    assert len(seen) == 3


def test_a_task_of_an_installed_package_is_known(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, information = Path("site/their_tasks"), Path("site/their_tasks-1.0.dist-info")
    shutil.copytree(tasks, package)
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: their_tasks\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[dartune.tasks]\n{NAME} = their_tasks.{NAME}\n")
    monkeypatch.syspath_prepend(str(Path("site").resolve()))
    assert NAME in names()
    assert Task(NAME).folder == package.resolve() / NAME
    (information / "entry_points.txt").write_text(f"[dartune.tasks]\n{NAME} = their_tasks.gone\n")
    with pytest.raises(UserError, match=r"entry point outside = their_tasks\.gone cannot be imported: No module"):
        names()


def test_a_folder_that_is_none_and_a_name_that_is_taken_are_one_line(tasks: Path) -> None:
    with pytest.raises(UserError, match=r"^params.yaml: task_folder is 'nowhere'; expected a folder, src/dartune"):
        check_tasks([NAME], "nowhere", PARAMS)
    PARAMS.write_text("task_folder: mine\n")
    shutil.copytree(tasks / NAME, tasks / "tsp_construct")
    with pytest.raises(UserError, match=r"^tasks: tsp_construct lies in .* and in .*mine; rename one$"):
        check_tasks(["tsp_construct"], "mine", PARAMS)
