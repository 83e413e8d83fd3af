"""What DVC knows of code: which edits make which stages stale. Edits are made in a copy of the tree."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grimp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from dartune.files import modules
from dartune.files.modules import DOORS, closure, code_fingerprint, code_hash, write_modules

ROOT = Path(__file__).parents[2]
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
TASKS = ["admissible_set", "cvrp_construct", "tsp_construct"]
SCRIPTS = sorted(set(STAGES) - {"modules"})
# A module that the stage needs and one that it does not. Behind the doors of the referee lies what only `referee` has.
EDITS = {
    "embedded": ("base_model/rewriting.py", "files/batches.py"),
    "base": ("models/checkpoint.py", "base_model/rewriting.py"),
    "referee": ("referee/worker.py", "models/checkpoint.py"),
    "pool": ("pool/prompts.py", "referee/worker.py"),
    "score": ("programs/features.py", "models/transformers_backend.py"),
    "sample": ("pairs/datasheet.py", "pairs/pairs.py"),
    "pairs": ("pairs/pairs.py", "pairs/sample.py"),
    "train": ("training/packing.py", "pool/prompts.py"),
    "rounds": ("pairs/sample.py", "evaluation/evaluate.py"),
    "baseline": ("evaluation/backends.py", "evaluation/evaluate.py"),
    "evaluate": ("evaluation/statistics.py", "evaluation/search.py"),
    "search": ("pool/search_loop.py", "training/train.py"),
    "report": ("report/plots.py", "training/train.py"),
}


class Tree:
    """A copy of src/ and stages/ to edit, and the hashes that stage `modules` writes of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.package = folder, folder / "src/dartune"
        self.transferred: list[str] = []
        for name in ("src", "stages"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))

    def edit(self, file: str, change: Callable[[str], str]) -> None:
        (self.package / file).write_text(change((self.package / file).read_text()))

    def hashes(self) -> dict[str, str]:
        """The text of each file that the stage writes, by its path below data/modules."""
        output = self.folder / "modules"
        shutil.rmtree(output, ignore_errors=True)
        tasks = {prompt.parent.name: prompt.parent for prompt in self.package.glob("tasks/*/prompt.md")}
        lists = {"learnt": TASKS, "remembered": TASKS, "transferred": self.transferred}
        write_modules(self.folder / "stages", output, tasks=tasks, trainers={}, **lists)
        return {str(file.relative_to(output)): file.read_text() for file in output.rglob("*.json")}

    def stale(self, before: dict[str, str]) -> set[str]:
        """The stages one of whose dependencies on code has changed."""
        after = self.hashes()
        changed = {f"data/modules/{name}" for name in after if before.get(name) != after[name]}
        changed |= {str(Path(name).parent) for name in changed}  # a stage may depend on the folder of all methods
        return {stage for stage in SCRIPTS if reads(stage) & changed}


def reads(stage: str) -> set[str]:
    """The files of data/modules that a stage depends on, with those that its data/referee was made of."""
    deps = set(STAGES[stage]["deps"])
    if any(dep.startswith("data/referee/") and "pool.method" not in dep for dep in deps):
        deps |= set(STAGES["referee"]["deps"])
    return {dep.replace("${pool.method}", "eoh").replace("${item.task}", "tsp_construct") for dep in deps}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    copy = Tree(tmp_path)
    monkeypatch.setattr(modules, "PACKAGE", copy.package)
    yield copy
    code_fingerprint.cache_clear()


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The hashes of the tree as it is. Tests that edit it twice take their own."""
    folder = tmp_path_factory.mktemp("before")
    with pytest.MonkeyPatch.context() as patch:
        copy = Tree(folder)
        patch.setattr(modules, "PACKAGE", copy.package)
        return copy.hashes()


def with_code(text: str) -> str:
    return text + "\nEDITED = 1\n"


def with_comments(text: str) -> str:
    """The module with other docstrings, comments at the ends of lines and between them, and blank lines."""
    lines = ["# first of all"]
    for line in text.splitlines():
        opens_docstring = line.strip().startswith('"""') and line.partition("#")[0].strip() != '"""'
        lines += [line.replace('"""', '"""Edited. ', 1) if opens_docstring else line]
        if line.startswith("def ") and line.endswith(":") and "TEMPLATE = " not in text:  # which is a string with code
            lines[-1] += "  # why"
    return "\n".join([*lines, "", "# last"]) + "\n"


@pytest.mark.parametrize("stage", SCRIPTS)
def test_an_edit_in_the_closure_makes_a_stage_stale(stage: str, tree: Tree, before: dict[str, str]) -> None:
    tree.edit(EDITS[stage][0], with_code)
    assert stage in tree.stale(before)


@pytest.mark.parametrize("stage", SCRIPTS)
def test_an_edit_outside_the_closure_does_not(stage: str, tree: Tree, before: dict[str, str]) -> None:
    tree.edit(EDITS[stage][1], with_code)
    assert stage not in tree.stale(before)
    assert before[f"{stage}.json"] == tree.hashes()[f"{stage}.json"]


def test_comments_docstrings_and_blank_lines_change_nothing(tree: Tree) -> None:
    before = tree.hashes()
    for file in tree.package.rglob("*.py"):
        if file.name != "template.py":  # what a model reads
            file.write_text(with_comments(file.read_text()))
            compile(file.read_text(), file, "exec")
    assert tree.hashes() == before


def test_blanks_and_hashes_inside_a_text_are_code() -> None:
    texts = [
        'X = """a\n\n# b\n"""\n',
        'X = """a\n# b\n"""\n',
        'X = """a\n\n#  b\n"""\n',
        "X = 'a # b'\n",
        "X = 'a # c'\n",
    ]
    assert len({code_hash(text) for text in texts}) == len(texts)


def test_the_closures_are_those_that_another_tool_finds() -> None:
    graph = grimp.build_graph("dartune", exclude_type_checking_imports=False)
    for door in DOORS:
        graph.remove_module(door)
    methods = "dartune.pool.methods"  # found by name, not by import
    for stage in set(SCRIPTS) - {"base", "referee"}:
        starts = {name for name in modules.imported(ROOT / f"stages/{stage}.py") if name in graph.modules}
        expected = starts.union(*(graph.find_upstream_modules(start) for start in starts))
        labels = {name for name in closure(ROOT / f"stages/{stage}.py") if name.endswith(".py")}
        names = {name.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".") for name in labels}
        names -= {f"stages.{stage}"}
        assert {name for name in names if not is_package(name)} == {
            name for name in expected if not is_package(name) and not name.startswith(methods)
        }


def is_package(name: str) -> bool:
    return (ROOT / "src" / name.replace(".", "/")).is_dir()


def test_sql_and_page_templates_belong_to_the_modules_that_name_them(tree: Tree) -> None:
    before = tree.hashes()
    tree.edit("pairs/sql/dar.sql", lambda text: text + "-- edited\n")
    assert tree.stale(before) == {"sample", "rounds"}
    before = tree.hashes()
    tree.edit("report/report.html.jinja", lambda text: text + "<p>edited</p>")
    assert tree.stale(before) == {"report"}


def test_a_search_method_makes_stale_what_searches_with_it(tree: Tree) -> None:
    before = tree.hashes()
    tree.edit("pool/methods/eoh.py", with_code)
    assert tree.stale(before) == {"pool", "rounds", "search"}
    before = tree.hashes()
    tree.edit("pool/methods/funsearch.py", with_code)  # not the pool's method
    assert tree.stale(before) == {"search"}


def test_a_task_changes_files_of_its_own_only(tree: Tree) -> None:
    before = tree.hashes()
    tree.edit("tasks/cvrp_construct/cost.py", with_code)
    after = tree.hashes()
    assert {name for name in before if before[name] != after[name]} == {"tasks/cvrp_construct/judging.json"}


def test_a_new_task_makes_no_stage_of_another_task_stale(tree: Tree) -> None:
    before = tree.hashes()
    shutil.copytree(tree.package / "tasks/tsp_construct", tree.package / "tasks/another_task")
    after = tree.hashes()
    assert after.keys() - before.keys() == {
        f"tasks/another_task/{name}.json" for name in ("judging", "references", "texts")
    }
    assert all(after[name] == text for name, text in before.items())


def test_a_task_that_models_are_transferred_to_makes_evaluations_stale(tree: Tree) -> None:
    plain = tree.hashes()["transferred.json"]
    tree.edit("tasks/job_shop/cost.py", with_code)
    assert tree.hashes()["transferred.json"] == plain
    tree.transferred = ["job_shop"]
    before = tree.hashes()
    assert before["transferred.json"] != plain
    for file in ("cost.py", "prompt.md", "references.json"):
        tree.edit(f"tasks/job_shop/{file}", with_code)
        after = tree.hashes()
        assert after["transferred.json"] != before["transferred.json"]
        before = after


def test_the_embedded_model_belongs_to_its_package_and_its_grammars(tree: Tree) -> None:
    files = {Path(name).relative_to("dartune").as_posix() for name in json.loads(tree.hashes()["embedded.json"])}
    shared = {f"tasks/{name}.py" for name in ("__init__", "grammar", "selection")}
    grammars = {f"tasks/{task}/grammar.py" for task in TASKS}
    assert files == {"base_model/embedded.py", "base_model/rewriting.py"} | shared | grammars
    before = tree.hashes()
    for file in tree.package.rglob("*.py"):
        name = file.relative_to(tree.package).as_posix()
        if name not in files and file.name != "template.py":
            tree.edit(name, with_code)
    for file in tree.package.glob("tasks/*/prompt.md"):
        file.write_text("Another task.\n")
    assert "embedded" not in tree.stale(before)


def test_the_key_of_unfinished_batches_follows_code_and_no_comment(tree: Tree) -> None:
    start = "dartune.referee.score"
    key = code_fingerprint(start)
    tree.edit("programs/features.py", with_comments)
    code_fingerprint.cache_clear()
    assert code_fingerprint(start) == key
    tree.edit("programs/features.py", with_code)
    code_fingerprint.cache_clear()
    assert code_fingerprint(start) != key


# ---- A stage that is killed, edited and run again

PROGRAMS = ["    return 0.0", "    return float(sum(el))", "    return -float(el[0])", "    return el[0] * 0.5 + el[1]"]


def write_pool(file: Path) -> None:
    completions = [f"```python\ndef priority(el, n, w):\n{body}  # {i}\n```" for i in range(250) for body in PROGRAMS]
    rows = {"id": [f"a-{i}" for i in range(len(completions))], "completion": completions}
    pq.write_table(pa.table(rows), file)


def command(folder: Path, output: str) -> list[str]:
    names = ["pool.parquet", str(ROOT / "models/embedded"), f"{output}.parquet", f"{output}.json", "resources.json"]
    return [sys.executable, str(folder / "stages/score.py"), "admissible_set", *names]


def score(tree: Tree, output: str, is_killed: bool = False) -> str:
    """Run stage `score` of the copied tree; kill it when its first batch of 200 rows is kept."""
    environment = os.environ | {"PYTHONPATH": str(tree.package.parent)}
    pipes = {"stderr": subprocess.PIPE, "text": True}
    lines = []
    with subprocess.Popen(command(tree.folder, output), cwd=tree.folder, env=environment, **pipes) as process:
        for line in process.stderr or ():
            lines.append(line)
            if is_killed and ": 200 of 1000" in line:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == (-signal.SIGKILL if is_killed else 0), "".join(lines)
    return "".join(lines)


def test_a_stage_killed_edited_and_rerun_gives_what_a_fresh_run_gives(tree: Tree) -> None:
    shutil.copy(ROOT / "params.yaml", tree.folder)
    shutil.copytree(ROOT / "presets", tree.folder / "presets")
    write_pool(tree.folder / "pool.parquet")
    score(tree, "killed", is_killed=True)
    tree.edit("programs/features.py", lambda text: text.replace(" or 'expression'}", " or 'formula'}"))
    resumed = score(tree, "killed")
    score(tree, "fresh")
    assert "score admissible_set: 200 of 1000" in resumed  # the first batch was made again
    killed, fresh = (pq.read_table(tree.folder / f"{name}.parquet") for name in ("killed", "fresh"))
    assert killed.equals(fresh)
    assert set(fresh["family"].to_pylist()) == {"formula of nothing", "formula of 0"}


def test_a_stage_killed_and_rerun_as_it_was_keeps_its_finished_batches(tree: Tree) -> None:
    shutil.copy(ROOT / "params.yaml", tree.folder)
    shutil.copytree(ROOT / "presets", tree.folder / "presets")
    write_pool(tree.folder / "pool.parquet")
    score(tree, "killed", is_killed=True)
    tree.edit("programs/features.py", with_comments)
    assert "score admissible_set: 200 of 1000" not in score(tree, "killed")
