"""A person's mistake in params.yaml or its preset gets one line, before any long work."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from dartune.errors import UserError
from dartune.validation import check, stages

ROOT = Path(__file__).parents[2]
MISSING = ...  # a value that says the same in every process


@pytest.fixture
def in_project_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def place(content: dict[str, Any], path: list[str]) -> Any:
    """What a file has under a path; None where it does not reach that far."""
    for part in path:
        content = content.get(part) if isinstance(content, dict) else None  # type: ignore[assignment]
    return content


def change(file: Path, key: str, value: object) -> None:
    """Change a value in the file that has it, take it out of all, or put a new one beside its like."""
    yaml = YAML()
    *path, last = key.split(".")
    contents = {each: yaml.load(each.read_text()) for each in (file, file.parent / "presets/embedded.yaml")}
    beside = [each for each in contents if place(contents[each], path) is not None]
    having = [each for each in beside if last in place(contents[each], path)]
    for each in having if value is MISSING else [*having, *beside][:1]:
        if value is MISSING:
            del place(contents[each], path)[last]
        else:
            place(contents[each], path)[last] = value
        with each.open("w") as stream:
            yaml.dump(contents[each], stream)


def test_the_committed_parameters_are_in_order(in_project_copy: Path) -> None:
    assert set(check()) == {"tasks", "task_folder", "preset", "methods", "trainers", *stages()}


MISTAKES = [
    ("tasks", ["tsp_constuct"], "there is no task 'tsp_constuct'; did you mean 'tsp_construct'?"),
    ("tasks", [], "expected a list of different names"),
    ("task_folder", "nowhere", "task_folder is 'nowhere'; expected a folder, src/dartune/tasks for"),
    ("pool.method", "eohh", "pool.method: there is no search method 'eohh'; did you mean 'eoh'?"),
    (
        "search.methods",
        ["independent", "climp"],
        "search.methods: there is no search method 'climp'; did you mean 'climb'?",
    ),
    ("search.methods", ["eoh", "eoh"], "search.methods: 'eoh' stands there twice"),
    ("search.methods", [], "search.methods is []: list should have at least 1 item"),
    ("search.guide", "train", "search.guide is 'train', which admissible_set does not hold out"),
    ("search.n_evaluations", 0, "search.n_evaluations is 0: input should be greater than 0"),
    ("pool.n_programs", 0, "pool.n_programs is 0: input should be greater than 0"),
    ("methods.eoh.population", 0, "methods.eoh.population is 0: input should be greater than 0"),
    ("methods.funsearch.islands", 3, "methods.funsearch.islands is not a parameter; did you mean 'n_islands'?"),
    ("methods", MISSING, "methods.independent is missing; search method independent needs it"),
    ("trian", {}, "'trian' is not a stage; did you mean 'train'?"),
    ("train", MISSING, "params.yaml: section 'train' is missing"),
    ("train.method", "dppo", "params.yaml: train.method: there is no trainer 'dppo'; did you mean 'dpo'?"),
    ("train.patience", 0, "params.yaml: train.patience is 0: input should be greater than 0"),
    ("train.max_length", 0.5, "presets/embedded.yaml: train.max_length is 0.5: input should be a valid integer"),
    ("train.lora", {"rank": 16}, "presets/embedded.yaml: train.lora.r is"),
    ("train.probe.split", "train", "train.probe.split is 'train', which admissible_set does not hold out"),
    ("train.probe.on_warning", "warn", "train.probe.on_warning is 'warn': input should be 'note', 'stop' or 'roll_"),
    ("train.probe.n_times", MISSING, "params.yaml: train.probe.n_times is"),
    ("train.probe.often", 3, "params.yaml: train.probe.often is 3: extra inputs are not permitted"),
    ("train.probe.remember", ["tsp_constuct"], "params.yaml: train.probe.remember: there is no task 'tsp_constuct'; "),
    ("trainers", MISSING, "params.yaml: trainers.dpo is missing"),
    ("trainers.dppo", {}, "params.yaml: train.method: there is no trainer 'dppo'; did you mean 'dpo'?"),
    ("train.load_in", "4bit", "train.load_in is 4bit, for weights that stay as they are; set train.lora"),
    ("train.report_to", ["wandb"], "train.report_to: wandb cannot be imported; install it, or take it out"),
    ("train.report_to", ["wandbb"], "train.report_to.0 is 'wandbb'"),
    ("trainers.dpo.extra", {"weight_decai": 0.1}, "is no argument of TRL's DPOConfig; did you mean 'weight_decay'?"),
    ("trainers.dpo.extra", {"beta": 0.1}, "trainers.dpo.extra.beta is set by dartune or by another parameter"),
    (
        "trainers.grpo.extra",
        {"max_completion_length": 9},
        "extra.max_completion_length is set by dartune or by another",
    ),
    ("trainers.dpo.extra", {"optim": "adamm"}, "train: adamm is not a valid OptimizerNames"),
    ("trainers.dpo.beta", MISSING, "trainers.dpo.beta is missing; dartune.training.trainers.dpo needs it"),
    ("trainers.dpo.betta", 0.1, "presets/embedded.yaml: trainers.dpo.betta is not a parameter; did you mean 'beta'?"),
    ("trainers.dpo.beta", "0.1", "presets/embedded.yaml: trainers.dpo.beta is '0.1': input should be a valid number"),
    ("trainers.dpo.beta", -1, "trainers.dpo.beta is -1: input should be greater than 0"),
    ("trainers.dpo.loss_weights", [1.0], "presets/embedded.yaml: trainers.dpo.loss_weights has 1 values"),
    ("trainers.dpo.loss_type", ["sigmoidal", "sft"], "trainers.dpo.loss_type.0 is 'sigmoidal'"),
    ("trainers.dpo.loss_type", ["exo_pair", "sft"], "trainers.dpo.label_smoothing is 0; exo_pair needs more"),
    ("trainers.dpo.f_divergence_type", "kl", "trainers.dpo.f_divergence_type is 'kl': input should be 'reverse_kl', "),
    ("trainers.grpo.n_completions", 1201, "trainers.grpo.n_completions is no multiple of num_generations"),
    ("trainers.rloo.num_generations", 1, "trainers.rloo.num_generations is 1: input should be greater than or equal"),
    ("rounds.n", 0, "rounds.n is 0: input should be greater than 0"),
    ("preset", "embeded", "params.yaml: there is no preset 'embeded'; did you mean 'embedded'?"),
    ("preset", MISSING, "params.yaml: there is no preset 'None'"),
    ("pool.n_programs", 1.5, "presets/embedded.yaml: pool.n_programs is 1.5"),
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
    ("base.prompt", "blok", "base.prompt: there is no form 'blok'; did you mean 'block'?"),
    ("base.dtype", "float16", "base.dtype is 'float16': input should be 'float32' or 'bfloat16'"),
    ("train.method", ["sft", "sft"], "train.method is ['sft', 'sft']; expected one or more different trainers"),
    ("pool.n_searches", 7, "pool: n_programs, 1200, is no multiple of n_searches, 7; make it one"),
    ("pool.source", "presets/smollm2-135m.yaml", "smollm2-135m is not on this machine; run: dartune fetch"),
    ("pool.source", "nowhere.jsonl", "pool.source: there is no nowhere.jsonl; expected a model's folder, a preset, a "),
    ("pool.source", "models/nope", "pool.source: there is no models/nope; expected a model's folder, a preset, a "),
    ("score.cluster", "rya", "score.cluster is 'rya'; expected null, local or ray://HOST:PORT"),
    ("pool.source", "servers/none.yaml", "servers/none.yaml: there is no such file"),
    ("evaluate.server", "servers/none.yaml", "servers/none.yaml: there is no such file"),
    ("base.model", "meta-llama/Llama-3.2-1B-Instruct", "needs the 40-digit commit"),
]


@pytest.mark.parametrize(("key", "value", "message"), MISTAKES, ids=lambda value: str(value)[:24])
def test_a_mistake_is_named(in_project_copy: Path, key: str, value: object, message: str) -> None:
    change(in_project_copy, key, value)
    with pytest.raises(UserError) as caught:
        check()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_preset_needs_no_trainer_that_is_not_used(in_project_copy: Path) -> None:
    for name in ("sft", "grpo", "rloo"):
        change(in_project_copy, f"trainers.{name}", MISSING)
    assert list(check()["trainers"]) == ["dpo"]
    change(in_project_copy, "train.method", "sft")
    with pytest.raises(UserError, match=r"trainers\.sft is missing; train\.method sft needs it"):
        check()


def test_extra_arguments_of_trl_are_let_through(in_project_copy: Path) -> None:
    change(in_project_copy, "trainers.dpo.extra", {"weight_decay": 0.01, "optim": "adafactor"})
    assert check()["trainers"]["dpo"]["extra"] == {"weight_decay": 0.01, "optim": "adafactor"}


def test_a_task_that_the_embedded_model_never_learnt_is_warned_of(in_project_copy: Path, capsys) -> None:
    change(in_project_copy, "embedded.tasks", ["tsp_construct"])
    check()
    assert "warning: admissible_set: the embedded model has not learnt this task" in capsys.readouterr().err


def test_a_divergence_that_a_loss_lacks_is_refused_before_the_run(in_project_copy: Path) -> None:
    change(in_project_copy, "trainers.dpo.f_divergence_type", "forward_kl")
    assert check()["trainers"]["dpo"]["loss_type"] == ["sigmoid", "sft"]  # which do
    change(in_project_copy, "trainers.dpo.loss_type", ["sigmoid", "nca_pair"])
    with pytest.raises(UserError, match=r"f_divergence_type is forward_kl; only these losses have it: discopop, exo"):
        check()


def test_a_value_that_stands_in_both_files_is_refused(in_project_copy: Path) -> None:
    in_project_copy.write_text(in_project_copy.read_text().replace("\npool:", "\npool:\n  n_programs: 3"))
    with pytest.raises(
        UserError, match=r"params\.yaml: pool\.n_programs stands in presets/embedded\.yaml too; take it out"
    ):
        check()


def test_a_preset_of_values_without_sections_is_refused(in_project_copy: Path) -> None:
    Path("presets/mine.yaml").write_text("pool: 3\n")
    change(in_project_copy, "preset", "mine")
    with pytest.raises(UserError, match=r"presets/mine\.yaml: pool is no section with values"):
        check()


def test_a_file_that_does_not_parse_is_named_with_the_line(in_project_copy: Path) -> None:
    in_project_copy.write_text("tasks: [a\nbase: {\n")
    with pytest.raises(UserError, match=r"params.yaml: line \d+ does not parse"):
        check()


@pytest.mark.parametrize("name", ["params.yaml", "presets/embedded.yaml"])
def test_a_float_as_dvc_writes_it_is_a_float(in_project_copy: Path, name: str) -> None:
    old = {"params.yaml": "temperature: 1.0", "presets/embedded.yaml": "learning_rate: 0.0002"}[name]
    Path(name).write_text(Path(name).read_text().replace(old, f"{old.split(':')[0]}: 2e-05"))
    content = check()
    found = {"params.yaml": content["train"]["temperature"], "presets/embedded.yaml": content["trainers"]["dpo"]}[name]
    assert (found if name == "params.yaml" else found["learning_rate"]) == 0.00002


def test_the_command_prints_one_line_and_fails(in_project_copy: Path) -> None:
    change(in_project_copy, "train.metod", "dpo")
    command = [sys.executable, "-m", "dartune.cli", "check"]
    result = subprocess.run(command, cwd=in_project_copy.parent, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == ["params.yaml: train.metod is not a parameter; did you mean 'method'?"]


WRONG = [
    ("train.max_grad_norm", "presets/embedded.yaml: train.max_grad_norm is 'high': input should be a valid number\n"),
    ("trainers.dpo.beta", "presets/embedded.yaml: trainers.dpo.beta is 'high': input should be a valid number\n"),
]


@pytest.mark.parametrize(("key", "message"), WRONG)
def test_a_stage_refuses_its_section_before_it_loads_anything(in_project_copy: Path, key: str, message: str) -> None:
    change(in_project_copy, key, "high")
    Path("limits.json").write_text("{}")
    words = ["tsp_construct", "pairs", "base", "limits.json", *"abcd"]
    command = [sys.executable, str(ROOT / "stages/train.py"), *words]
    result = subprocess.run(command, cwd=in_project_copy.parent, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, message)
