"""What dvc.lock does not know, and what changed since a stage made it, is refused."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from dartune.errors import UserError
from dartune.export.export import export
from dartune.export.provenance import LOCK
from finished_project import TASK, tuned_folder


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        (f"metrics/sample/{TASK}.json", "sample"),
        (f"metrics/sample/{TASK}.md", "sample"),
        (f"metrics/train/{TASK}.json", "train"),
        (f"metrics/evaluate/{TASK}.json", "evaluate"),
        (f"metrics/search/{TASK}.json", "search"),
        (f"data/referee/{TASK}/train.json", "referee"),
    ],
)
def test_a_missing_file_is_named_with_the_stage_that_makes_it(copied: Path, path: str, stage: str) -> None:
    Path(path).unlink()
    expected = f"{path} is missing; {stage}@{TASK} makes it: dvc checkout, or dvc repro {stage}@{TASK}"
    with pytest.raises(UserError, match=f"^{expected}$"):
        export(TASK, Path("out"), False)
    assert not Path("out").exists()


def test_metrics_that_are_not_of_the_run_are_refused(copied: Path) -> None:
    file = Path(f"metrics/evaluate/{TASK}.json")
    file.write_text(file.read_text().replace("0.4321", "0.9999"))
    with pytest.raises(UserError, match=rf"^{file} is not what evaluate@{TASK} made, by dvc\.lock"):
        export(TASK, Path("out"), False)


def test_a_model_trained_again_after_evaluation_is_refused(copied: Path) -> None:
    yaml, tuned = YAML(), str(tuned_folder())
    lock = yaml.load(LOCK.read_text())
    for out in (out for entry in lock["stages"].values() for out in entry["outs"] if out["path"] == tuned):
        out["md5"] = "0" * 32 + ".dir"
    yaml.dump(lock, LOCK)
    expected = f"dvc.lock: (evaluate|search)@{TASK} ran on another {tuned} than there is; run: dvc repro"
    with pytest.raises(UserError, match=expected):
        export(TASK, Path("out"), False)


@pytest.mark.parametrize("stage", ["evaluate", "search"])
def test_a_stage_that_never_ran_is_named(copied: Path, stage: str) -> None:
    LOCK.write_text(LOCK.read_text().replace(f"{stage}@{TASK}", f"{stage}@other"))
    with pytest.raises(UserError, match=rf"^dvc\.lock does not say what made metrics/{stage}/{TASK}\.json; run: dvc"):
        export(TASK, Path("out"), False)


def test_a_missing_dvc_lock_is_named(copied: Path) -> None:
    LOCK.unlink()
    with pytest.raises(UserError, match=r"^dvc\.lock is missing; run from the root of the project"):
        export(TASK, Path("out"), False)
