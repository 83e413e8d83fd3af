"""Mistakes in a task's folder: each is named in one line, with its file."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dartune.tasks
import dartune.tasks.plane  # of the task that is copied; once the copy is the only one, it is not found
from dartune.errors import UserError
from dartune.tasks import contract
from dartune.tasks.contract import check_task
from dartune.tasks.task import Task, names

Edit = Callable[[Path], object]
NAME = "a_task_of_mine"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of tsp_construct under another name, the only task there is."""
    yield from copied("tsp_construct", tmp_path, monkeypatch)


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of online_bin_packing, in the same way."""
    yield from copied("online_bin_packing", tmp_path, monkeypatch)


def copied(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    copy = tmp_path / NAME
    shutil.copytree(Task(task).folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(dartune.tasks, "__path__", [str(tmp_path)])
    monkeypatch.setattr(contract, "LIMIT_S", 5)
    monkeypatch.chdir(tmp_path)
    yield copy
    for name in [name for name in sys.modules if name.startswith(f"dartune.tasks.{NAME}")]:
        del sys.modules[name]


def replaced(file: str, old: str, new: str) -> Edit:
    def edit(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))

    return edit


def written(file: str, text: str) -> Edit:
    return lambda folder: (folder / file).write_text(text)


def scale_references(folder: Path, factor: float) -> None:
    content = json.loads((folder / "references.json").read_text())
    scaled = {split: [factor * value for value in values] for split, values in content.items()}
    (folder / "references.json").write_text(json.dumps(scaled))


MISTAKES: dict[str, tuple[Edit, str]] = {
    "no template": (
        lambda folder: (folder / "template.py").unlink(),
        "template.py: missing or empty; expected prompt.md",
    ),
    "empty references": (written("references.json", ""), "references.json: missing or empty"),
    "syntax": (written("rollout.py", "def run(:\n"), "rollout.py: cannot be imported: SyntaxError"),
    "import": (
        replaced("cost.py", "import numpy", "import numpyy"),
        "cost.py: cannot be imported: ModuleNotFoundError",
    ),
    "no draw": (
        replaced("instances.py", "def draw", "def drawn"),
        "instances.py: lacks draw; expected SPLITS, SHIFTED",
    ),
    "no function": (
        replaced("rollout.py", "FUNCTION =", "NAME ="),
        "rollout.py: lacks FUNCTION; expected FUNCTION, N_",
    ),
    "direction": (
        replaced("cost.py", '"minimise"', '"min"'),
        "cost.py: DIRECTION is 'min'; expected minimise or maximise",
    ),
    "no test split": (replaced("instances.py", '    "test":', '    "tset":'), "instances.py: SPLITS lacks test; train"),
    "shifted": (
        replaced("instances.py", 'SHIFTED = ("shifted_20"', 'SHIFTED = ("x"'),
        "SHIFTED names x, which SPLITS has",
    ),
    "unseeded": (
        replaced("instances.py", "RandomState(seed)", "RandomState()"),
        "differs from call to call; draw from",
    ),
    "draw raises": (
        replaced("instances.py", "RandomState(seed)", "RandomState(-1)"),
        "draw('train') raises ValueError",
    ),
    "no list": (replaced("instances.py", "return [{", "return [1] or [{"), "expected a list of dictionaries"),
    "template syntax": (written("template.py", "def f(:\n"), "template.py: line 1"),
    "another name": (
        replaced("template.py", "select_next_node", "choose"),
        "defines choose; expected select_next_node",
    ),
    "items that are nowhere": (
        replaced("rollout.py", "N_ARGUMENTS = 4", 'N_ARGUMENTS = 4\nONLINE = "items"'),
        "rollout.py: ONLINE is 'items'; expected one of an instance's keys, ",
    ),
    "arguments": (
        replaced("rollout.py", "N_ARGUMENTS = 4", "N_ARGUMENTS = 3"),
        "takes 4 arguments; rollout.py's N_ARG",
    ),
    "template raises": (
        replaced("template.py", "unvisited_nodes[0]", "unvisited_nodes[99]"),
        "run(template, instance) r",
    ),
    "template cheats": (
        replaced("template.py", "return unvisited_nodes[0]", "return 0"),
        "which is not among the unvis",
    ),
    "a rollout without an end": (
        replaced("rollout.py", "    tour = [0]\n", "    tour = [0]\n    while True:\n        pass\n"),
        "rollout.py: run(template, instance) raises TimeoutError: has not ended in 5 s",
    ),
    "a draw without an end": (
        replaced("instances.py", "    return [{", "    while True:\n        pass\n    return [{"),
        "instances.py: draw('train') raises TimeoutError: has not ended in 5 s",
    ),
    "no json": (written("references.json", "{"), "references.json: Expecting property name"),
    "a split is missing": (
        replaced("references.json", '"validation"', '"val"'),
        "references.json: validation: expected",
    ),
    "too few": (
        replaced("references.json", '"train": [', '"train": [1, '),
        "references.json: train has 9 numbers for 8",
    ),
    "too few of another split": (
        replaced("references.json", '"validation": [', '"validation": [1, '),
        "references.json: validation has 17 numbers for 16 instances",
    ),
    "a reference that is no bound": (
        lambda folder: scale_references(folder, 100),
        "times as good as train's reference, the best known",
    ),
    "negative costs": (replaced("cost.py", "lengths.tolist()", "(-lengths).tolist()"), "costs are numbers above 0"),
    "one cost": (replaced("cost.py", "lengths.tolist()", "lengths.tolist()[:1]"), "compute_costs must return a pair"),
    "no prompt": (lambda folder: (folder / "prompt.md").unlink(), "prompt.md: missing or empty"),
    "prepare": (
        replaced("cost.py", '= instance["distances"]', '= instance["d"]'),
        "prepare(instances) raises KeyErr",
    ),
    "no pair": (
        replaced("cost.py", "return lengths.tolist(), ", "return "),
        "compute_costs must return a pair: a list",
    ),
    "costs raise": (
        replaced("cost.py", "lengths.tolist()", "lengths.to()"),
        "cost.py: compute_costs raises AttributeError",
    ),
    "decisions": (
        replaced("rollout.py", "return [*tour", "return [object(), *tour"),
        "expected a list of integers, or of",
    ),
    "splits of another type": (
        replaced("instances.py", 'SHIFTED = ("shifted_20"', 'SPLITS, SHIFTED = 5, ("shifted_20"'),
        "instances.py: SPLITS is 5; expected a Mapping",
    ),
    "no tuple of shifted splits": (
        replaced("instances.py", 'SHIFTED = ("shifted_20"', 'SHIFTED, _ = None, ("shifted_20"'),
        "instances.py: SHIFTED is None; expected a tuple",
    ),
    "a prompt in Latin-1": (lambda folder: (folder / "prompt.md").write_bytes(b"\xe9"), "prompt.md: cannot be read: "),
    "draw raises for another split": (
        replaced("instances.py", "RandomState(seed)", "RandomState(seed if seed != 103 else -1)"),
        "instances.py: draw('test') raises ValueError",
    ),
    "moves of another type": (
        replaced("cost.py", "return lengths.tolist(), ", "return lengths.tolist(), [1, 2] or "),
        "cost.py: compute_costs gave moves that are no array (n,) of integers",
    ),
    "a rollout that writes to its instance": (
        replaced("rollout.py", "    tour = [0]\n", "    tour = [0]\n    distances[0] = 0\n"),
        "rollout.py: run(template, instance) raises ValueError: assignment destination is read-only",
    ),
    "a template that exits": (
        replaced("template.py", "return unvisited_nodes[0]", "raise SystemExit(0)"),
        "rollout.py: run(template, instance) raises RuntimeError: it ends the process: SystemExit",
    ),
    "an array of decisions": (
        replaced("rollout.py", "return [*tour, int(np.flatnonzero(is_open)[0])]", "return np.array(tour)"),
        "rollout.py: run returned ndarray of int64; expected a list of integers, or of floats, of 64 bits",
    ),
    "a cost that is no number": (
        replaced("cost.py", "lengths.tolist()", "(lengths * np.nan).tolist()"),
        "cost.py: compute_costs gave [nan, nan]; costs are numbers above 0",
    ),
    "one number for all costs": (
        replaced("cost.py", "lengths.tolist()", "lengths.sum()"),
        "cost.py: compute_costs must return a pair: a list with one cost per instance",
    ),
    "references of a split that is not there": (
        replaced("references.json", '"train"', '"tset": [1.0], "train"'),
        "references.json: tset: no split of instances.py",
    ),
    "infinite references": (
        replaced("references.json", '"train": [', '"train": [Infinity, '),
        "references.json: train: expected a list of positive numbers",
    ),
}
ONLINE_MISTAKES: dict[str, tuple[Edit, str]] = {
    "items that run does not wait for": (
        replaced("rollout.py", "def run(", "def run(program, instance): return []\ndef other("),
        "rollout.py: run of an online task yields None, then the decision on each item that it is sent",
    ),
    "a decision before the first item": (
        replaced("rollout.py", "item = yield None", "item = yield 3"),
        "rollout.py: run(template, instance) raises ValueError: run yields 3 before an item is revealed; expected None",
    ),
    "an end before the last item": (
        replaced("rollout.py", "while True:", "for _ in range(3):"),
        "rollout.py: run of an online task ends; it yields a decision on each item, in a loop without an end",
    ),
    "items that are no numbers": (
        replaced("instances.py", "this.sizes(generator, this.n_items)", "np.full(this.n_items, np.nan)"),
        "instances.py: train: items of an online task is an array (n,) of finite numbers",
    ),
    "items of two numbers": (
        replaced("instances.py", "this.sizes(generator, this.n_items)", "np.ones((this.n_items, 2))"),
        "instances.py: train: items of an online task is an array (n,) of finite numbers",
    ),
    "more instances than a message has items": (
        replaced("instances.py", '"shifted_uniform": Set(8, 500', '"shifted_uniform": Set(8193, 2'),
        "instances.py: shifted_uniform has 8193 instances; an online task's has 8192 at most",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_task_is_named_with_its_file(mistake: str, folder: Path) -> None:
    refused(folder, *MISTAKES[mistake])


@pytest.mark.parametrize("mistake", ONLINE_MISTAKES)
def test_a_mistake_in_an_online_task_is_named_with_its_file(mistake: str, online: Path) -> None:
    refused(online, *ONLINE_MISTAKES[mistake])


def refused(folder: Path, edit: Edit, message: str) -> None:
    """Check that check_task() says this of the task once it is edited."""
    edit(folder)
    with pytest.raises(UserError) as caught:
        check_task(NAME)
    assert str(caught.value).startswith(f"{NAME}/") and "\n" not in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", names())
def test_the_tasks_that_are_here_hold_the_contract(name: str) -> None:
    check_task(name)


def test_instances_may_hold_nan_and_lists_of_lists(folder: Path) -> None:
    held = 'distances(points), "unknown": np.nan, "rows": [[1], [1, 2]]}'
    replaced("instances.py", "distances(points)}", held)(folder)
    check_task(folder.name)


def test_a_copy_of_a_task_holds_it_too(folder: Path) -> None:
    check_task(folder.name)
    assert names() == [NAME]
