"""Plain `dvc repro`, without the flow: what it checks before anything runs, and what another preset leaves alone."""

import shutil
from pathlib import Path

import pytest

from project_copy import TASK, commit, copy_project, edit, run


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose base model is up to date and committed."""
    folder = tmp_path_factory.mktemp("repro")
    copy_project(folder, [TASK])
    run(folder, "dvc", "repro", "-q", "base")
    commit(folder, "base")
    return folder


@pytest.fixture
def project(committed: Path) -> Path:
    run(committed, "git", "checkout", "-q", ".")
    run(committed, "git", "clean", "-qfd")
    return committed


def changed(project: Path) -> list[str]:
    return run(project, "git", "status", "--short").stdout.split()[1::2]


MISTAKES = {
    "an unknown task": (
        "\n- admissible_set\ntask_folder",
        "\n- admisible_set\ntask_folder",
        "did you mean 'admissible_set'?",
    ),
    "a task twice": (
        "\n- admissible_set\ntask_folder",
        "\n- admissible_set\n- admissible_set\ntask_folder",
        "expected a list of different names",
    ),
    "no task": ("tasks:\n- admissible_set\ntask_folder", "tasks: []\ntask_folder", "tasks is []; expected a list"),
    "no such preset": ("preset: embedded", "preset: embeded", "did you mean 'embedded'?"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_stops_it_before_anything_is_deleted(mistake: str, project: Path) -> None:
    old, new, message = MISTAKES[mistake]
    edit(project, "params.yaml", old, new)
    result = run(project, "dvc", "repro", is_ok=False)
    assert result.returncode != 0
    assert message in result.stderr and "Traceback" not in result.stderr
    assert changed(project) == ["params.yaml"]
    assert (project / "models/base/model.safetensors").exists()


def test_a_copied_preset_does_not_train_the_embedded_model_anew(project: Path) -> None:
    shutil.copy(project / "presets/embedded.yaml", project / "presets/mine.yaml")
    edit(project, "params.yaml", "preset: embedded", "preset: mine")
    printed = run(project, "dvc", "repro", "base").stdout
    assert "Stage 'embedded' didn't change, skipping" in printed
    assert changed(project) == ["dvc.lock", "params.yaml", "presets/mine.yaml"]


def test_another_model_and_back_leaves_the_embedded_model_as_it_was(project: Path) -> None:
    shutil.copytree(project / "models/embedded", project / "other")
    text = (project / "presets/embedded.yaml").read_text()
    (project / "presets/other.yaml").write_text(text.replace("model: embedded", "model: ./other"))
    edit(project, "params.yaml", "preset: embedded", "preset: other")
    run(project, "dvc", "repro", "-q", "base")
    assert sorted(file.name for file in (project / "models/base").iterdir()) == ["run.json", "source.json"]
    edit(project, "params.yaml", "preset: other", "preset: embedded")
    run(project, "dvc", "repro", "-q", "base")
    assert (project / "models/base/model.safetensors").exists()
    assert "models/" not in "".join(changed(project))
