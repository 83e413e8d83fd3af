"""`dartune task new` and `dartune task check`: a new task is in order, and planted mistakes are found."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dartune.tasks
from dartune.authoring import check
from dartune.authoring.cheats import common_cheats
from dartune.authoring.check import findings, print_findings
from dartune.authoring.mutations import mutations
from dartune.authoring.skeleton import write_skeleton
from dartune.cli import main
from dartune.errors import UserError
from dartune.tasks import contract
from dartune.tasks.task import Task, add_folder, names
from planted_mistakes import MISTAKES, replaced

NAME = "my_jobs"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer programs whose scores are shown, and less time for the task's code."""
    monkeypatch.setattr(contract, "LIMIT_S", 5)
    monkeypatch.setattr(check, "N_PROGRAMS", 100)
    monkeypatch.setattr(check, "MIN_VALID", 10)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a new task; the test runs beside it."""
    monkeypatch.setattr(dartune.tasks, "__path__", [*dartune.tasks.__path__])
    monkeypatch.chdir(tmp_path)
    folder = write_skeleton(NAME, tmp_path / "tasks")
    add_folder(folder.parent)
    yield folder
    forget_modules()


def forget_modules() -> None:
    for name in [name for name in sys.modules if name.startswith(f"dartune.tasks.{NAME}")]:
        del sys.modules[name]


def test_a_new_task_has_no_errors_and_no_warnings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert print_findings(NAME, None) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"{NAME}: usable, 0 warnings"
    assert all(line.startswith("ok ") for line in printed[:-2])
    assert [line.split()[1] for line in printed[:-2]] == [
        *("folder", "splits", "words", "trust", "references", "time", "cheats", "programs", "scores")
    ]


def test_the_references_of_a_new_task_are_the_optimum(folder: Path) -> None:
    task = Task(NAME)
    for split in task.splits:
        instances = task.instances(split)
        orders = [np.argsort(-instance["weights"] / instance["hours"]) for instance in instances]
        costs, _ = task.cost.compute_costs(task.cost.prepare(instances), orders)
        assert costs == pytest.approx(task.references(split))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(mistake: str, folder: Path, few: None) -> None:
    edit, expected = MISTAKES[mistake]
    edit(folder)
    found = list(findings(NAME))
    assert [one for one in found if one[:2] == expected[:2] and expected.text in one.text], found
    assert all("\n" not in one.text for one in found)


WITH_PLAN = """

without_plan = draw


def draw(split):
    return [job | {"plan": np.argsort(-job["weights"] / job["hours"])} for job in without_plan(split)]
"""


@pytest.mark.parametrize("order", ["number", "-number"])
def test_a_solution_in_sight_is_as_good_as_its_own_instances_reference(folder: Path, order: str) -> None:
    """Instances of unlike sizes, so that the mean of the references says nothing of one of them."""
    hours = f'"hours": 10.0 ** {order} * generator.uniform(1, 10, n_jobs)'
    replaced(
        "instances.py",
        ('"hours": generator.uniform(1, 10, n_jobs)', hours),
        ("for _ in range(n_instances)", "for number in range(n_instances)"),
    )(folder)
    write_optimum(folder)
    assert not [one for one in findings(NAME) if one.level == "error"]
    with (folder / "instances.py").open("a") as file:
        file.write(WITH_PLAN)
    forget_modules()
    texts = [one.text for one in findings(NAME) if one.check == "trust"]
    assert texts == ["instance['plan'] of validation's instance 0 is a solution as good as the reference"]


def write_optimum(folder: Path) -> None:
    """References of the instances as they are: jobs by their weight in an hour."""
    task = Task(NAME)
    content = {}
    for split in task.splits:
        instances = task.instances(split)
        orders = [np.argsort(-instance["weights"] / instance["hours"]) for instance in instances]
        content[split] = task.cost.compute_costs(task.cost.prepare(instances), orders)[0]
    (folder / "references.json").write_text(json.dumps(content))


@pytest.mark.parametrize("name", names())
def test_our_tasks_are_usable(name: str, tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(findings(name))
    assert not [one for one in found if one.level == "error"]
    assert {one.text for one in found if one.level == "warning"} <= {
        "llm4ad, test, train, validation share instances, so what is good on one is good on the other"  # of one size
    }


def test_scores_are_those_of_a_pool_that_is_given(folder: Path) -> None:
    head = "def select_next_job(waiting, hours, weights):\n    return "
    answers = [f"Here it is:\n```python\n{head}waiting[{i} % len(waiting)]\n```" for i in range(25)] + ["no idea"]
    pq.write_table(pa.table({"completion": answers}), "pool.parquet")
    found = list(findings(NAME, Path("pool.parquet")))
    assert "26 of pool.parquet: 25 ok, 1 no_program" in [one.text for one in found]
    assert found[-1].text.startswith("25 valid, ")


def test_a_pool_that_cannot_be_read_is_one_line(folder: Path) -> None:
    pq.write_table(pa.table({"completion": ["an answer", None]}), "pool.parquet")
    with pytest.raises(UserError, match=r"^--pool: pool.parquet has completions that are no texts$"):
        list(findings(NAME, Path("pool.parquet")))
    Path("pool.parquet").write_text("no Parquet")
    pq.write_table(pa.table({"answer": ["no idea"]}), "other.parquet")
    for file in ("pool.parquet", "other.parquet", "nowhere.parquet"):
        with pytest.raises(UserError, match=f"^--pool: {file} is no Parquet file with a column completion "):
            list(findings(NAME, Path(file)))


def test_a_signature_over_several_lines_is_one_for_cheats_and_for_people(folder: Path) -> None:
    before = Task(NAME).signature
    replaced("template.py", ("def select_next_job(", "def select_next_job(\n    "), (") -> int:", ",\n) -> int:"))(
        folder
    )
    assert Task(NAME).signature == before
    for _, cheat in common_cheats(Task(NAME)):
        compile(cheat, "cheat", "exec")


def test_times_are_measured_anew_at_each_check(folder: Path) -> None:
    first, second = ([one.text for one in findings(NAME) if one.check == "time"] for _ in range(2))
    assert not any(text.startswith("0.000 s an evaluation") for text in first + second)


def test_mutations_differ_parse_and_are_the_same_for_a_seed() -> None:
    template = Task("cvrp_construct").template
    first, again = ([next(stream) for _ in range(100)] for stream in (mutations(template, 1), mutations(template, 1)))
    assert first == again and len(set(first)) == 100
    for program in first:
        compile(program, "program", "exec")


def test_a_name_that_is_taken_or_none_is_one_line(folder: Path) -> None:
    with pytest.raises(UserError, match=r"^task: there is a task 'my_jobs' in .*; take another name$"):
        write_skeleton(NAME, folder.parent)
    with pytest.raises(UserError, match=r"^task: '2-opt' is no name of a task; expected letters, digits and _$"):
        write_skeleton("2-opt", folder.parent)
    with pytest.raises(UserError, match=r"^task: dartune.tasks has a module grammar; take another name$"):
        write_skeleton("grammar", folder.parent)
    (folder.parent / "other").mkdir()
    with pytest.raises(UserError, match=r"^task: .*other exists; take another name or folder$"):
        write_skeleton("other", folder.parent)
    (folder.parent / "file").touch()
    with pytest.raises(UserError, match=r"^task: .*file/other cannot be written: .*; take another folder$"):
        write_skeleton("other", folder.parent / "file")


def test_a_cheat_without_its_statuses_is_one_line(folder: Path) -> None:
    (folder / "cheats/first_come.py").write_text("def select_next_job(w, h, e):\n    return w[0]\n")
    found = [one for one in findings(NAME) if one.level == "error"]
    assert [one.check for one in found] == ["cheats"]
    assert "first_come.py: the first line is not '# statuses: what it tries'" in found[0].text


def test_the_command_makes_a_task_and_checks_its_folder(
    tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dartune.tasks, "__path__", [*dartune.tasks.__path__])
    monkeypatch.chdir(tmp_path)
    for words, last in (
        ("new bins", f"run it:    in params.yaml, task_folder: {tmp_path}/tasks, and bins under tasks"),
        ("check tasks/bins", "bins: usable, 0 warnings"),
    ):
        monkeypatch.setattr(sys, "argv", ["dartune", "task", *words.split()])
        main()
        assert capsys.readouterr().out.splitlines()[-1] == last
    Path("tasks/bins/prompt.md").unlink()
    monkeypatch.setattr(sys, "argv", ["dartune", "task", "check", "tasks/bins"])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "bins: not usable, 1 error" in capsys.readouterr().out
