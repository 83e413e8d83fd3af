"""`dartune task new` and `dartune task check`: a new task is in order, and planted mistakes are found."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dartune.tasks
from dartune.authoring import check
from dartune.authoring.cheats import common_cheats
from dartune.authoring.check import Finding, findings, print_findings
from dartune.authoring.mutations import mutations
from dartune.authoring.skeleton import write_skeleton
from dartune.cli import main
from dartune.errors import UserError
from dartune.tasks import contract
from dartune.tasks.task import Task, add_folder, names

NAME = "my_jobs"
Edit = Callable[[Path], object]


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


def replaced(file: str, *changes: tuple[str, str]) -> Edit:
    def edit(folder: Path) -> None:
        text = (folder / file).read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        (folder / file).write_text(text)

    return edit


def both(*edits: Edit) -> Edit:
    return lambda folder: [edit(folder) for edit in edits]


def with_references(change: Callable[[float], float]) -> Edit:
    def edit(folder: Path) -> None:
        content = json.loads((folder / "references.json").read_text())
        changed = {split: [change(value) for value in values] for split, values in content.items()}
        (folder / "references.json").write_text(json.dumps(changed))

    return edit


def edited_references(split: str, change: Callable[[float], float]) -> Edit:
    def edit(folder: Path) -> None:
        content = json.loads((folder / "references.json").read_text())
        content[split] = [change(value) for value in content[split]]
        (folder / "references.json").write_text(json.dumps(content))

    return edit


DRAW = "    return [\n        {"
ENTRY = '"weights": generator.uniform(1, 10, n_jobs)}'
GIVEN = f"""    jobs = [
        {{"hours": generator.uniform(1, 10, n_jobs), {ENTRY}
        for _ in range(n_instances)
    ]
"""
ADDED = {
    "order": 'np.argsort(-job["weights"] / job["hours"])',
    "best": "np.array(SOLVED[split][number])",
}


def giving(name: str) -> Edit:
    """Instances that hold the answer, as an order of jobs or as its cost."""

    def edit(folder: Path) -> None:
        file = folder / "instances.py"
        head, _, _ = file.read_text().partition(DRAW)
        solved = f"\n\nSOLVED = {(folder / 'references.json').read_text()}\n"
        lines = f'    return [job | {{"{name}": {ADDED[name]}}} for number, job in enumerate(jobs)]\n'
        file.write_text(head + GIVEN + lines + solved)

    return edit


CHECKED = '        if not 0 <= job < len(hours) or not is_waiting[job]:\n            raise Refused("infeasible", '
LOOP = """        job = index(program(np.flatnonzero(is_waiting), hours, weights))
"""
SIZES = '"sizes": (hours := generator.uniform(1, 10, n_jobs)), "hours": hours'
SUMS = '"sums": (hours := generator.randint(1, 10, n_jobs)).cumsum(), "hours": hours'
SCALED = '"shares": (hours := generator.uniform(1, 10, n_jobs)) / hours.sum(), "hours": hours'
LISTED = '"next": {"them": (hours := generator.uniform(1, 10, n_jobs)).tolist()[3:13]}, "hours": hours'
PART = '"next": (hours := generator.uniform(1, 10, n_jobs))[3:13], "hours": hours'
ONLINE = (
    ("N_ARGUMENTS = 3", 'N_ARGUMENTS = 3\nONLINE = "hours"'),
    ('hours, weights = instance["hours"]', 'hours, weights = instance["weights"]'),
    ("    order: list[int] = []\n", "    yield\n"),
    ("        order.append(job)\n    return order\n", "        yield job\n"),
)


def future(name: str, entry: str) -> tuple[Edit, Finding]:
    """An online task whose instances tell, by another value, of the hours that are revealed later."""
    edit = both(
        replaced("instances.py", ('"hours": generator.uniform(1, 10, n_jobs)', entry)),
        replaced("rollout.py", *ONLINE),
    )
    text = f"instance['{name}'] has the numbers of hours, which are revealed one by one"
    return edit, Finding("error", "trust", text)


SMITH = ("return waiting[0]", "return waiting[np.argmax(weights[waiting] / hours[waiting])]")
# What is planted, and the level, the check and the words of a finding that it must have.
MISTAKES: dict[str, tuple[Edit, Finding]] = {
    "wrong direction": (
        both(replaced("cost.py", ('"minimise"', '"maximise"')), with_references(lambda value: 1.4 * value)),
        Finding("error", "scores", "DIRECTION is wrong"),
    ),
    "references that are no bounds": (
        with_references(lambda value: 1.2 * value),
        Finding("error", "scores", "times as good as the reference"),
    ),
    "the cost of the optimum in the instance": (giving("best"), Finding("error", "trust", "is its reference")),
    "the optimum in the instance": (giving("order"), Finding("error", "trust", "a solution as good as the reference")),
    "unseeded instances": (
        replaced("instances.py", ("RandomState(seed)", 'RandomState(seed if split == "train" else None)')),
        Finding("error", "splits", "draw('validation') differs from call to call"),
    ),
    "splits that overlap": (
        replaced("instances.py", ('"test": (16, 20, 3)', '"test": (16, 20, 2)')),
        Finding("warning", "splits", "test, validation share instances"),
    ),
    "the scorer beside the program": (
        both(
            replaced(
                "rollout.py", ("    return order", "    return [float((weights[order] * hours[order].cumsum()).sum())]")
            ),
            replaced(
                "cost.py",
                (
                    "        n_jobs = len",
                    "        costs.append(float(decision[0]))\n        continue\n        n_jobs = len",
                ),
                ("np.concatenate(moves)", "np.zeros(1, int)"),
            ),
        ),
        Finding("error", "trust", "cost.py takes the cost that rollout.py returned"),
    ),
    "a plateau": (
        both(
            replaced("cost.py", ("costs.append(float((", "costs.append(1.0 + 0.0 * float((")),
            with_references(lambda _: 0.9),
        ),
        Finding("warning", "scores", "100% have the quality 0.900"),
    ),
    "books that programs can write to": (
        replaced(
            "rollout.py",
            ("    order: list[int] = []", "    order: list[int] = []\n    waiting = np.arange(len(hours))"),
            (
                LOOP,
                "        job = index(program(waiting, hours, weights))\n        waiting = waiting[waiting != job]\n",
            ),
        ),
        Finding("error", "trust", "a program that writes to its arguments breaks run()"),
    ),
    "items that are handed over later in sight": future("sizes", SIZES),
    "sums of items that are handed over later": future("sums", SUMS),
    "shares of items that are handed over later": future("shares", SCALED),
    "the next ten items in a list": future("next", LISTED),
    "a rollout by which programs draw the next items": (
        replaced(
            "rollout.py", *ONLINE, ("import numpy as np\n", "import numpy as np\n\nfrom .instances import draw\n")
        ),
        Finding("error", "splits", "rollout.py imports instances.py, so a program can draw the items"),
    ),
    "draws that depend on the hashes of texts": (
        replaced("instances.py", ("RandomState(seed)", "RandomState(hash(split) % 1000)")),
        Finding("error", "splits", "draw('train') differs from process to process"),
    ),
    "references of another split": (
        edited_references("test", lambda value: value / 3),
        Finding("warning", "references", "very unlike; are they those of these instances?"),
    ),
    "references that are no bound": (
        edited_references("test", lambda value: 3 * value),
        Finding("error", "references", "the template is better on test; references.json is not of these instances"),
    ),
    "a cost that charges for what is not done": (
        replaced("cost.py", ("        if len(np.unique(order)) < n_jobs:", "        if len(order) < n_jobs:")),
        Finding("error", "trust", "cost.py accepts decisions of which all are the same, and finds them"),
    ),
    "a cost that fails where it should refuse": (
        replaced("cost.py", ("            raise Refused(", "            raise AssertionError(")),
        Finding("error", "trust", "cost.py fails on decisions of which the last are missing: AssertionError: "),
    ),
    "a draw that ends the process for one split": (
        replaced("instances.py", ("    return [\n", "    assert split != 'test' or exit(0)\n    return [\n")),
        Finding("error", "folder", "draw('test') raises RuntimeError: it ends the process: SystemExit: 0 (in"),
    ),
    "a grammar that ends the process": (
        lambda folder: (folder / "grammar.py").write_text("def draw(rng):\n    raise SystemExit(0)\n"),
        Finding("error", "scores", "it ends the process: SystemExit: 0"),
    ),
    "a cost that does not end once it is imported": (
        lambda folder: (folder / "cost.py").write_text("while True:\n    pass\n"),
        Finding("error", "folder", "cost.py: cannot be imported: TimeoutError: has not ended in 5 s"),
    ),
    "a rollout without an end on one split": (
        replaced("rollout.py", ("    order: list", "    while len(hours) == 50:\n        pass\n    order: list")),
        Finding("error", "template", "TimeoutError: has not ended in 5 s"),
    ),
    "a program that is handed the books in a tuple": (
        replaced(
            "rollout.py",
            ("    order: list[int] = []", "    order: list[int] = []\n    books = np.arange(len(hours))"),
            (LOOP, LOOP.replace("index(program(", "int(books[index(program(").replace("weights))", "(books,)))])")),
        ),
        Finding("error", "trust", "a program that writes to its arguments breaks run()"),
    ),
    "a rollout with a clock": (
        replaced(
            "rollout.py",
            ("import numpy as np\n", "import time\n\nimport numpy as np\n"),
            (
                LOOP,
                LOOP + "        job = np.flatnonzero(is_waiting)[(job + time.perf_counter_ns()) % is_waiting.sum()]\n",
            ),
        ),
        Finding("error", "trust", "run() decides otherwise on the same instance the second time"),
    ),
    "an instance with an object of its own": (
        replaced("instances.py", ('"weights": gen', '"more": lambda: 1, "weights": gen')),
        Finding("error", "folder", "draw('train') has function in an instance; expected arrays, numbers, texts, lists"),
    ),
    "a reference beyond all numbers": (
        edited_references("test", lambda value: 10**400),
        Finding("error", "folder", "references.json: test: expected a list of positive numbers"),
    ),
    "a run that returns nothing": (
        replaced("rollout.py", ("    return order\n", "")),
        Finding("error", "folder", "rollout.py: run returned NoneType; expected a list of integers"),
    ),
    "a run of an online task that does not say so": (
        replaced("rollout.py", *ONLINE[1:]),
        Finding("error", "folder", "rollout.py: run returned a generator, which is for an online task, with ONLINE"),
    ),
    "a cheat that names a program that is not there": (
        replaced("cheats/makes_its_arguments_cheap.py", ("ok=first_come", "ok=nobody")),
        Finding("error", "cheats", "cheats/nobody.py: missing; a file beside it names it after ok="),
    ),
    "the next ten items": future("next", PART),
    "a rollout without an end where its books are spoilt": (
        replaced(
            "rollout.py",
            ("    order: list[int] = []", "    order: list[int] = []\n    waiting = np.arange(len(hours))"),
            (
                LOOP,
                LOOP.replace("np.flatnonzero(is_waiting)", "waiting")
                + "        while len(waiting) > 1 and not waiting.any():\n            pass\n"
                + "        waiting = waiting[waiting != job]\n",
            ),
        ),
        Finding("error", "trust", "a program that writes to its arguments breaks run(): TimeoutError: has not end"),
    ),
    "prompt and template that disagree": (
        replaced("prompt.md", ("one element of waiting", "one element of `open_jobs`")),
        Finding("error", "words", "prompt.md speaks of open_jobs"),
    ),
    "a template that is the best there is": (
        replaced("template.py", SMITH),
        Finding("warning", "scores", "none is better than the template"),
    ),
    "a cheat that works": (
        both(
            replaced("rollout.py", (CHECKED, '        if job < 0:\n            raise Refused("infeasible", ')),
            replaced(
                "rollout.py",
                ("    while is_waiting.any():", "    for _ in hours:"),
            ),
            replaced(
                "cost.py",
                ("        if len(np.unique(order)) < n_jobs:", "        if len(order) < n_jobs:"),
            ),
        ),
        Finding("error", "cheats", "does_only_the_best_job is ok; expected infeasible"),
    ),
    "a template that depends on the clock": (
        replaced(
            "template.py",
            ("import numpy as np", "import time\n\nimport numpy as np"),
            ("return waiting[0]", "return waiting[time.perf_counter_ns() % len(waiting)]"),
        ),
        Finding("error", "template", "is nondeterministic"),
    ),
    "costs that are no numbers for some programs": (
        replaced("cost.py", ("costs.append(float((", "costs.append(float('nan') if order[0] else float((")),
        Finding("error", "scores", "cost.py fails on a program's decisions (WrongCosts: gave [nan"),
    ),
    "a template that raises on other instances": (
        both(
            replaced("instances.py", ('"validation": (16, 20, 2)', '"validation": (16, 21, 2)')),
            replaced("template.py", ("return waiting[0]", "return waiting[0] if len(hours) != 21 else 1 // 0")),
        ),
        Finding("error", "trust", "ZeroDivisionError: integer division"),
    ),
    "a grammar that raises": (
        lambda folder: (folder / "grammar.py").write_text("def draw(rng):\n    return 1 / 0\n"),
        Finding("error", "scores", "ZeroDivisionError"),
    ),
    "no references": (lambda folder: (folder / "references.json").unlink(), Finding("error", "folder", "missing")),
}


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
