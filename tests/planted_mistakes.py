"""Mistakes in the task that `dartune task new` writes, and what `dartune task check` must find of each."""

import json
from collections.abc import Callable
from pathlib import Path

from dartune.authoring.check import Finding

Edit = Callable[[Path], object]


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
    "a rollout without an end whose state a program overwrites": (
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
