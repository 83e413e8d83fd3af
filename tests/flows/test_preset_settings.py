"""What a preset sets of params.yaml, for a run that chooses it: by DVC's -S, by the flow, and checked."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from toy_repository import FLOWS

sys.path.insert(0, str(FLOWS))

import overrides
from dartune import params, presets
from dartune.errors import UserError
from dartune.validation import check

ROOT = FLOWS.parent


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_preset(values: object) -> None:
    """presets/mine.yaml: the embedded model's, with a section `params`."""
    yaml = YAML()
    content = yaml.load(Path("presets/embedded.yaml").read_text())
    content["params"] = values
    with Path("presets/mine.yaml").open("w") as stream:
        yaml.dump(content, stream)


def choose(name: str) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("\npreset: embedded ", f"\npreset: {name} "))


def words_of_a_shell(name: str) -> list[str]:
    """What `dvc exp run $(dartune preset NAME)` gives to DVC."""
    script = f"printf '%s\\n' $({sys.executable} -m dartune.cli preset {name})"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_preset_of_the_paper_is_the_papers_as_a_whole(project: Path) -> None:
    assert words_of_a_shell("llama-3.2-1b") == [
        *("-S", "preset=llama-3.2-1b", "-S", "tasks=[admissible_set,cvrp_construct]"),
        *("-S", "pool.method=eoh", "-S", "sample.options.dar.one_per=text", "-S", "search.n_evaluations=2000"),
    ]


def test_a_preset_that_does_not_exist_is_given_to_dvc_whose_check_stops(project: Path) -> None:
    command = [sys.executable, "-m", "dartune.cli", "preset", "llama-3.2-1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "-S preset=llama-3.2-1\n" and done.returncode == 1
    assert "there is no preset 'llama-3.2-1'; did you mean 'llama-3.2-1b'?" in done.stderr


VALUES: dict[str, Any] = {
    "tasks": ["tsp_construct", "12"],  # a text that looks like a number
    "pool.source": "servers/it's_$HOME*",
    "sample.strategy": {"dar": 0.75, "uniform": 0.25},
    "train.patience": None,
    "search.seeds": [],
    "evaluate.with_shifted": False,
    "rounds.min_gain": 3e-05,
    "train.method": "null",
}


def test_a_shell_and_dvc_set_what_the_flow_sets(project: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    write_preset(VALUES)
    ((file, values),) = overrides.by_file(overrides.with_preset({"preset": "mine"})).items()
    by_flow = YAML(typ="safe").load(overrides.edited(file.read_text(), values))
    words = words_of_a_shell("mine")
    assert set(words[::2]) == {"-S"}
    apply_overrides("params.yaml", words[1::2])
    assert params.read() == by_flow and {name: dict(presets.dotted(by_flow))[name] for name in VALUES} == VALUES


def test_a_value_of_the_run_itself_wins_over_the_presets(project: Path) -> None:
    write_preset({"sample.seed": 1, "pool.seed": 1})
    given = {"pool.seed": 2, "preset": "mine", "sample": {"seed": 3}}
    values = overrides.by_file(overrides.with_preset(given))[Path("params.yaml")]
    changed = YAML(typ="safe").load(overrides.edited(Path("params.yaml").read_text(), values))
    assert (changed["pool"]["seed"], changed["sample"], changed["preset"]) == (2, {"seed": 3}, "mine")
    assert overrides.with_preset({"pool.seed": 2}) == {"pool.seed": 2}


def test_what_a_preset_sets_is_no_parameter(project: Path) -> None:
    write_preset({"pool.seed": 1})
    choose("mine")
    assert "params" not in check() and check()["pool"]["seed"] == 0
    with pytest.raises(UserError, match=r"there is no 'params\.pool\.seed'"):
        overrides.by_file({"params.pool.seed": 2})
    Path("params.yaml").write_text(Path("params.yaml").read_text() + "\nparams: {train.seed: 1}\n")
    with pytest.raises(UserError, match=r"params\.yaml: 'params' is not a stage"):
        check()


MISTAKES = [
    ({"pool.sead": 1}, "presets/mine.yaml: params: params.yaml has no 'pool.sead' to set; did you mean 'pool.seed'?"),
    ({"pool.n_programs": 1}, "presets/mine.yaml: params: params.yaml has no 'pool.n_programs' to set"),  # the preset's
    ({"preset": "embedded"}, "presets/mine.yaml: params: params.yaml has no 'preset' to set"),
    ({"sample.options": {"dar": {}}}, "params: sample.options is a section; name its values, as in sample.options.dar"),
    (["pool.seed"], "presets/mine.yaml: params is no section with values"),
]


@pytest.mark.parametrize(("values", "message"), MISTAKES, ids=lambda value: str(value)[:24])
def test_a_mistake_in_it_is_named_before_anything_runs(project: Path, values: object, message: str) -> None:
    write_preset(values)
    choose("mine")
    with pytest.raises(UserError) as caught:
        check()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_text_that_a_shell_would_split_is_refused(project: Path) -> None:
    write_preset({"pool.source": "my server.yaml"})
    with pytest.raises(UserError, match=r"'my server\.yaml' has a blank, at which a shell splits"):
        presets.options("mine")
