"""A person's mistake in params.yaml gets one line, before any long work."""

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from dartune.cli import check, stages
from dartune.mistake import Mistake

ROOT = Path(__file__).parents[1]
MISSING = ...  # a value that says the same in every process


@pytest.fixture
def in_project_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def change(file: Path, key: str, value: object) -> None:
    yaml = YAML()
    content = yaml.load(file.read_text())
    *path, last = key.split(".")
    place = content
    for part in path:
        place = place[part]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    with file.open("w") as stream:
        yaml.dump(content, stream)


def test_the_committed_parameters_are_in_order(in_project_copy: Path) -> None:
    assert set(check()) == {"tasks", "methods", *stages()}


MISTAKES = [
    ("tasks", ["tsp_constuct"], "there is no task 'tsp_constuct'; did you mean 'tsp_construct'?"),
    ("tasks", [], "expected a list of different names"),
    ("pool.method", "eohh", "there is no search method 'eohh'; did you mean 'eoh'?"),
    ("search.methods", ["sample", "climp"], "there is no search method 'climp'; did you mean 'climb'?"),
    ("search.methods", [], "search.methods is []: list should have at least 1 item"),
    ("search.guide", "train", "search.guide is 'train', which admissible_set does not hold out"),
    ("search.n_evaluations", 0, "search.n_evaluations is 0: input should be greater than 0"),
    ("pool.n_programs", 0, "pool.n_programs is 0: input should be greater than 0"),
    ("methods.eoh.population", 0, "methods.eoh.population is 0: input should be greater than 0"),
    ("methods.funsearch.islands", 3, "methods.funsearch.islands is not a parameter; did you mean 'n_islands'?"),
    ("methods", MISSING, "methods.sample is missing; search method sample needs it"),
    ("trian", {}, "'trian' is not a stage; did you mean 'train'?"),
    ("train", MISSING, "section 'train' is missing"),
    ("train.beta", MISSING, "train.beta is missing"),
    ("train.betta", 0.1, "train.betta is not a parameter; did you mean 'beta'?"),
    ("train.beta", "0.1", "train.beta is '0.1': input should be a valid number"),
    ("train.beta", -1, "train.beta is -1: input should be greater than 0"),
    ("train.loss_weights", [1.0], "train.loss_weights has 1 values"),
    ("train.loss_type", ["sigmoidal", "sft"], "train.loss_type.0 is 'sigmoidal'"),
    ("train.lora", {"rank": 16}, "train.lora.r is"),
    ("pool.n_programs", 1.5, "pool.n_programs is 1.5"),
    ("pool.top_p", 1.5, "pool.top_p is 1.5: input should be less than or equal to 1"),
    ("sample.strategy", "darr", "no strategy 'darr'; did you mean 'dar'?"),
    ("sample.strategy", {"dar": 0.5, "uniform": 0.4}, "the shares add up to 0.9; expected 1"),
    ("sample.options.dar.one_per", "trees", "sample.options.dar: expected one_per in ('text', 'tree', 'shape', "),
    ("sample.options.dar.gap", 10, "expected whole(gap) and gap >= 1 and gap < n_subsets; found"),
    ("sample.options.dar.tau", "three", "sample.options.dar: expected number(tau) and tau > 0; found {'tau': 'three'}"),
    ("sample.options.dar.tauu", 1, "sample.options.dar.tauu is not a parameter; did you mean 'tau'?"),
    ("evaluate.held_out", "train", "which admissible_set does not hold out"),
    ("evaluate.held_out", "tset", "did you mean 'test'?"),
    ("base.model", "./nowhere", "is no folder with a config.json"),
    ("base.model", "meta-llama/Llama-3.2-1B-Instruct", "needs the 40-digit commit"),
]


@pytest.mark.parametrize(("key", "value", "message"), MISTAKES, ids=lambda value: str(value)[:24])
def test_a_mistake_is_named(in_project_copy: Path, key: str, value: object, message: str) -> None:
    change(in_project_copy, key, value)
    with pytest.raises(Mistake) as caught:
        check()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_does_not_parse_is_named_with_the_line(in_project_copy: Path) -> None:
    in_project_copy.write_text("tasks: [a\nbase: {\n")
    with pytest.raises(Mistake, match=r"params.yaml: line \d+ does not parse"):
        check()


def test_a_float_as_dvc_writes_it_is_a_float(in_project_copy: Path) -> None:
    text = in_project_copy.read_text().replace("learning_rate: 0.0002", "learning_rate: 2e-05")
    in_project_copy.write_text(text)
    assert check()["train"]["learning_rate"] == 0.00002


def test_the_command_prints_one_line_and_fails(in_project_copy: Path) -> None:
    change(in_project_copy, "train.betta", 0.1)
    command = [sys.executable, "-m", "dartune.cli", "check"]
    result = subprocess.run(command, cwd=in_project_copy.parent, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == ["params.yaml: train.betta is not a parameter; did you mean 'beta'?"]


def test_a_stage_refuses_its_section_before_it_loads_anything(in_project_copy: Path) -> None:
    change(in_project_copy, "train.beta", "high")
    command = [sys.executable, str(ROOT / "stages/train.py"), "tsp_construct", *"abcdef"]
    result = subprocess.run(command, cwd=in_project_copy.parent, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "params.yaml: train.beta is 'high': input should be a valid number\n"
