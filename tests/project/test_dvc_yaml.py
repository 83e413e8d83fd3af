"""dvc.yaml: one stage, script and section of each name, and what a stage depends on."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from dartune.evaluation.baseline import write_baseline
from dartune.params import everything, schema
from dartune.pool import ask_tell, search_loop
from dartune.training.trainers import TRAINERS
from dartune.validation import stages

ROOT = Path(__file__).parents[2]
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
PRESET = YAML(typ="safe").load((ROOT / f"presets/{PARAMS['preset']}.yaml").read_text())
WHOLE = everything(ROOT / "params.yaml")

OTHER = {"modules", "referee", "baseline"}  # stages without a section of their own
SECTIONS = {
    "modules": [],
    "report": ["report", "base", "trainers"],
    "referee": ["score"],
    "baseline": ["evaluate"],
    "rounds": ["rounds", "pool", "score", "sample", "pairs", "train"],
}
OPTIONS = {
    "pool": {"methods.${pool.method}"},
    "referee": {"methods"},
    "rounds": {"methods.${pool.method}"},
    "search": {"methods"},
}
PARTS = {"baseline": {f"evaluate.{name}" for name in schema(write_baseline) if name in PARAMS["evaluate"]}}
# What decides verdicts reaches a stage as a file of data/referee.
REFEREE = {
    "pool": ["${pool.method}"],
    "score": ["version"],
    "train": ["train"],
    "rounds": ["${pool.method}", "train"],
    "evaluate": ["version"],
    "search": ["version"],
}


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"modules"}))
def test_a_stage_depends_on_its_modules_and_on_no_source_of_python(stage: str) -> None:
    deps = STAGES[stage]["deps"]
    assert f"data/modules/{stage}.json" in deps
    assert not [dep for dep in deps if dep.endswith(".py") and not dep.endswith("/template.py")]


def test_stages_that_ask_the_referee_depend_on_its_files_and_no_others_do() -> None:
    for stage, description in STAGES.items():
        files = [dep for dep in description["deps"] if dep.startswith("data/referee/")]
        assert files == [f"data/referee/${{item.task}}/{name}.json" for name in REFEREE.get(stage, [])]


def test_a_task_that_runs_is_one_whose_prompt_a_training_depends_on() -> None:
    assert set(PARAMS["tasks"]) <= set(PARAMS["train"]["probe"]["remember"])


def test_a_stage_a_script_a_section_and_a_function_share_each_name() -> None:
    scripts = {file.stem for file in (ROOT / "stages").glob("*.py")}
    assert set(STAGES) == scripts
    assert (
        set(STAGES) - OTHER == set(WHOLE) - {"tasks", "task_folder", "preset", "methods", "trainers"} == set(stages())
    )


@pytest.mark.parametrize("stage", sorted(set(STAGES) - OTHER))
def test_a_functions_arguments_are_its_sections_keys_in_their_order(stage: str) -> None:
    arguments = list(schema(stages()[stage]))
    for part in (PARAMS.get(stage, {}), PRESET.get(stage, {})):
        assert list(part) == [name for name in arguments if name in part]
    assert set(arguments) == set(WHOLE[stage])


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainers_arguments_are_its_sections_keys_in_their_order(name: str) -> None:
    assert list(schema(TRAINERS[name])) == list(PRESET["trainers"][name])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_follows_its_own_sections_in_params_and_in_the_preset_only(stage: str) -> None:
    sections = SECTIONS.get(stage, [stage])
    listed = STAGES[stage].get("params", [])
    names = [name for name in listed if isinstance(name, str)]
    whole = {name for name in sections if name in PARAMS}
    assert set(names) - {"tasks", "preset"} == PARTS.get(stage, whole) | OPTIONS.get(stage, set())
    assert ("data/modules/trainers.json" in STAGES[stage]["deps"]) is ("train" in sections)
    from_preset = [name for name in sections if name in PRESET]
    expected = [{"presets/${preset}.yaml": from_preset}] if from_preset else []
    assert [entry for entry in listed if isinstance(entry, dict)] == expected


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_that_a_command_names_is_declared(stage: str) -> None:
    script, *words = re.sub(r"^PYTHONPATH=src python ", "", STAGES[stage]["cmd"]).split()
    assert script == f"stages/{stage}.py"
    written = [path for kind in ("outs", "metrics", "plots") for path in STAGES[stage].get(kind, [])]
    known = {next(iter(path)) if isinstance(path, dict) else path for path in written} | set(STAGES[stage]["deps"])
    words = [word for word in words if not word.startswith("metrics/resources")]  # measured on a clock: no outputs
    folders = {str(folder) for path in known for folder in Path(path).parents}  # report reads metrics/, for one
    assert [word for word in words if word not in known | folders | {"${item.task}"}] == []


def test_stages_write_what_they_took_and_no_output_depends_on_the_clock() -> None:
    for stage in set(STAGES) - OTHER - {"base", "report"}:
        name = stage if stage == "embedded" else f"{stage}/${{item.task}}"
        assert STAGES[stage]["cmd"].split()[-1] == f"metrics/resources/{name}.json"


def test_one_file_is_compared_by_dvc_metrics_and_it_has_no_costs() -> None:
    content = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
    assert "metrics" not in content
    assert [stage.get("metrics") for stage in STAGES.values() if "metrics" in stage] == [
        [{"metrics/summary.json": {"cache": False}}]
    ]
    assert "second" not in (ROOT / "metrics/summary.json").read_text()


def test_git_holds_the_embedded_model_and_no_run_deletes_it() -> None:
    held = [out for stage in STAGES.values() for out in stage["outs"] if path_of(out) is None]
    assert [next(iter(out)) for out in held] == ["models/embedded", "metrics/embedded.json"]
    assert all(options == {"cache": False, "persist": True} for out in held for options in out.values())


def test_an_experiment_changes_one_line_of_the_parameters(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    before = shutil.copy(ROOT / "params.yaml", file).read_text()
    apply_overrides(str(file), ["pool.method=eoh"])  # what `dvc exp run -S` calls
    old, new = (text.splitlines() for text in (before, file.read_text()))
    assert [line.split()[:2] for line in new if line not in old] == [["method:", "eoh"]]
    assert len(old) == len(new)


def test_every_method_has_its_options_in_the_parameters_and_no_other_has() -> None:
    files = {file.stem for file in (ROOT / "src/dartune/pool/methods").glob("[!_]*.py")}
    assert set(PARAMS["methods"]) == files == set(ask_tell.methods())
    for name in files:
        assert search_loop.options(name, ROOT / "params.yaml") == PARAMS["methods"][name]


def test_git_ignores_what_dvc_keeps_whatever_the_task_is_called() -> None:
    # DVC adds lines to .gitignore, and takes them back where a later stage of the same run fails.
    paths = [path for stage in STAGES.values() for path in map(path_of, stage["outs"]) if path]
    paths = [path.replace("${item.task}", "a_new_task") for path in paths]
    command = ["git", "check-ignore", "--no-index", *paths]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines() == paths
    assert len(paths) >= 10


def path_of(output: str | dict[str, dict[str, object]]) -> str | None:
    """The path of an output that DVC's cache holds; None for one that git holds."""
    if isinstance(output, str):
        return output
    (path, options), *_ = output.items()
    return path if options.get("cache", True) else None
