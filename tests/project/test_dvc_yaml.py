"""dvc.yaml says what each stage depends on: DVC does not see Python's imports, so a test does."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from dartune.cli import stages
from dartune.params import everything, schema
from dartune.pool import ask_tell, search_loop
from dartune.tasks.task import names
from dartune.training.trainers import TRAINERS

ROOT = Path(__file__).parents[2]
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
PRESET = YAML(typ="safe").load((ROOT / f"presets/{PARAMS['preset']}.yaml").read_text())
WHOLE = everything(ROOT / "params.yaml")

# What a stage reads of a task's folder, which is found by name and not by import.
PARTS = {
    "referee": ["instances.py", "referee.py", "rule.py", "template.py"],
    "pool": ["prompt.md", "template.py"],
    "pairs": ["prompt.md", "template.py"],
    "score": ["instances.py", "referee.py", "rule.py", "template.py"],
    "evaluate": ["instances.py", "prompt.md", "referee.py", "references.json", "rule.py", "template.py"],
    "search": ["instances.py", "prompt.md", "referee.py", "references.json", "rule.py", "template.py"],
    "train": ["references.json"],
    "rounds": ["references.json"],
}
SECTIONS = {"referee": ["score"], "rounds": ["rounds", "pool", "score", "sample", "pairs", "train"]}  # else its own
OPTIONS = {"pool": {"methods.${pool.method}"}, "rounds": {"methods.${pool.method}"}, "search": {"methods"}}
# What decides verdicts reaches these stages as a file of data/referee.
RULES = {"pool": ["${pool.method}"], "train": ["train"], "rounds": ["${pool.method}", "train"]}


def imported(file: Path) -> Iterator[str]:
    """Names of modules in all import statements of a file, also those inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reached(file: Path) -> set[str]:
    """Files of the package that a file imports, directly or through others, relative to the root."""
    seen: set[str] = set()
    waiting = [file]
    while waiting:
        for module in imported(waiting.pop()):
            path = ROOT / "src" / f"{module.replace('.', '/')}.py"
            relative = str(path.relative_to(ROOT))
            if module.startswith("dartune") and path.exists() and relative not in seen:
                seen.add(relative)
                waiting.append(path)
    return seen


def declared(stage: str) -> set[str]:
    """The stage's source dependencies, for a task called TASK."""
    deps = [dep.replace("${item.task}", "TASK") for dep in STAGES[stage]["deps"]]
    return {dep for dep in deps if dep.startswith(("src/", "stages/"))}


def task_files(stage: str) -> set[str]:
    own = {f"src/dartune/tasks/TASK/{part}" for part in PARTS.get(stage, [])}
    learnt = {"base": PARAMS["base"]["tasks"]}
    learnt |= dict.fromkeys(("train", "rounds"), PARAMS["train"]["watch"]["remember"])
    parts = ("grammar.py", "prompt.md", "template.py")
    return own | {f"src/dartune/tasks/{task}/{part}" for task in learnt.get(stage, []) for part in parts}


def methods(stage: str) -> set[str]:
    """The search methods that a stage finds by name, and what they import."""
    files = sorted((ROOT / "src/dartune/search").glob("[!_]*.py"))
    if stage == "referee":
        return {"src/dartune/search"}
    found = {path for file in files for path in reached(file)}
    pool = {"src/dartune/search/${pool.method}.py"}
    own = {"pool": pool, "rounds": pool, "search": {str(file.relative_to(ROOT)) for file in files}}
    return own[stage] | found if stage in own else set()


def judging() -> set[str]:
    """The files of the referee. Stage referee depends on them."""
    names = (
        "behaviour cluster decisions evaluations extraction judgement leftovers panel referee sandbox settlement"
        " verdict worker"
    )
    return {f"src/dartune/{name}.py" for name in names.split()}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_just_the_files_that_it_imports(stage: str) -> None:
    expected = {f"stages/{stage}.py"} | reached(ROOT / f"stages/{stage}.py") | task_files(stage) | methods(stage)
    if stage in RULES:
        assert judging() <= declared("referee") & expected
        expected -= judging()
    if stage in ("base", "train", "rounds"):
        expected |= {"src/dartune/grammar.py", "src/dartune/program.py"}  # imported by the tasks' grammars
    if stage in ("sample", "rounds"):
        expected |= {f"src/dartune/{name}" for name in ("datasheet.md.jinja", "macros.sql", "sql")}
    if stage == "report":
        expected |= {"src/dartune/report.html.jinja", "src/dartune/cost.html.jinja"}
    assert declared(stage) == expected


def test_a_stage_that_asks_the_referee_depends_on_its_rules_and_no_other_does() -> None:
    for stage, its in STAGES.items():
        found = [dep for dep in its["deps"] if dep.startswith("data/referee/")]
        assert found == [f"data/referee/${{item.task}}/{name}.json" for name in RULES.get(stage, [])]


def test_every_task_that_runs_is_among_those_that_its_training_reads_prompts_of() -> None:
    assert set(PARAMS["tasks"]) <= set(PARAMS["train"]["watch"]["remember"])


def test_a_task_folder_imports_nothing_that_its_stages_do_not_depend_on() -> None:
    for name in names():
        for part in ("instances", "referee", "rule"):
            file = ROOT / f"src/dartune/tasks/{name}/{part}.py"
            own = {f"src/dartune/tasks/{name}/{other}" for other in PARTS["score"]}
            assert reached(file) <= declared("score") | own


def test_there_is_one_stage_one_script_one_section_and_one_function_of_each_name() -> None:
    scripts = {file.stem for file in (ROOT / "stages").glob("*.py")}
    assert set(STAGES) == scripts
    assert set(STAGES) - {"referee"} == set(WHOLE) - {"tasks", "preset", "methods", "trainers"} == set(stages())


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"referee"}))
def test_the_arguments_of_the_function_are_the_keys_of_the_section_in_their_order(stage: str) -> None:
    arguments = list(schema(stages()[stage]))
    for part in (PARAMS.get(stage, {}), PRESET.get(stage, {})):
        assert list(part) == [name for name in arguments if name in part]
    assert set(arguments) == set(WHOLE[stage])


@pytest.mark.parametrize("name", TRAINERS)
def test_the_arguments_of_a_trainer_are_the_keys_of_its_section_in_their_order(name: str) -> None:
    assert list(schema(TRAINERS[name])) == list(PRESET["trainers"][name])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_follows_its_own_sections_in_params_and_in_the_preset_only(stage: str) -> None:
    sections = SECTIONS.get(stage, [stage])
    own = [each for each in STAGES[stage]["params"] if isinstance(each, str)]
    assert set(own) - {"tasks"} == {name for name in sections if name in PARAMS} | OPTIONS.get(stage, set())
    trainer = ["trainers.${train.method}"] * ("train" in sections)
    from_preset = [name for name in sections if name in PRESET] + trainer
    expected = [{"presets/${preset}.yaml": from_preset}] if from_preset else []
    assert [each for each in STAGES[stage]["params"] if isinstance(each, dict)] == expected


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_that_a_command_names_is_declared(stage: str) -> None:
    words = re.sub(r"^PYTHONPATH=src python ", "", STAGES[stage]["cmd"]).split()
    written = [path for kind in ("outs", "metrics", "plots") for path in STAGES[stage].get(kind, [])]
    known = {next(iter(path)) if isinstance(path, dict) else path for path in written} | set(STAGES[stage]["deps"])
    words = [word for word in words if not word.startswith("metrics/resources")]  # measured on a clock: no outputs
    folders = {dep.split("/")[0] for dep in known}  # report reads metrics/ and writes report/
    assert [word for word in words if word not in known | folders | {"${item.task}"}] == []


def test_every_stage_with_work_to_do_says_what_it_cost_and_no_output_hangs_on_the_clock() -> None:
    for stage in set(STAGES) - {"referee", "report"}:
        name = "base" if stage == "base" else f"{stage}/${{item.task}}"
        assert STAGES[stage]["cmd"].split()[-1] == f"metrics/resources/{name}.json"
    assert YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["metrics"] == ["metrics/resources"]


def test_every_method_has_its_options_in_the_parameters_and_no_other_has() -> None:
    files = {file.stem for file in (ROOT / "src/dartune/search").glob("[!_]*.py")}
    assert set(PARAMS["methods"]) == files == set(ask_tell.methods())
    for name in files:
        assert search_loop.options(name, ROOT / "params.yaml") == PARAMS["methods"][name]
