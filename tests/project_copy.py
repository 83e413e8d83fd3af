"""This project, copied into a repository of its own with small parameters: real stages, real model, minutes.

For tests of the pipeline as a whole. For tests of the flow alone take toy_repository, which takes seconds.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from warm_python import warm_python

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent  # of `python`, `dvc` and `dartune`
TASK = "admissible_set"
TINY = {
    "pool": {"n_programs": 60, "batch_size": 30},
    "sample": {
        "n_pairs": 8,
        "options": {
            "dar": {"one_per": "score_signature", "n_subsets": 4, "gap": 1, "tau": 3.0},
            "uniform": {"one_per": "text"},
        },
    },
    "trainers": {
        "dpo": {
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 1,
            "loss_type": ["sigmoid"],
            "loss_weights": [1.0],
        }
    },
    "train": {"probe": {"n_times": 1, "n_samples": 10}},
    "evaluate": {"n_samples": 20, "batch_size": 20, "with_shifted": False},
    "search": {"methods": ["funsearch"], "n_evaluations": 12, "seeds": [0, 1]},
}


AFTER_POOL = {"score", "sample", "pairs", "train", "rounds", "evaluate", "search", "report"}


@contextmanager
def warm_project(folder: Path) -> Iterator[None]:
    """Make the folder the working tree with tiny parameters and one commit, whose stages start warm here."""
    copy_project(folder, [TASK])
    with warm_python() as warm, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "BIN", warm)
        yield


def copy_project(folder: Path, tasks: list[str]) -> None:
    """What git knows or would add, with one commit."""
    for file in run(ROOT, "git", "ls-files", "-co", "--exclude-standard").stdout.splitlines():
        if (ROOT / file).is_file():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)
    set_params(folder, {"tasks": tasks, **TINY})
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "config", "user.name", "tester")
    run(folder, "git", "config", "user.email", "tester@example.org")
    commit(folder, "tiny")


def run(folder: Path, *command: str, is_ok: bool = True) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert not is_ok or result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result


def commit(folder: Path, message: str) -> str:
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", message)
    return run(folder, "git", "rev-parse", "HEAD").stdout.strip()


def set_params(folder: Path, changes: dict[str, object]) -> None:
    """Each value where it stands: in params.yaml or in the preset."""
    yaml = YAML()
    for file in (folder / "params.yaml", folder / "presets/embedded.yaml"):
        content = yaml.load(file.read_text())
        update(content, changes)
        with file.open("w") as stream:
            yaml.dump(content, stream)


def update(content: dict[str, object], changes: dict[str, object]) -> None:
    for name, value in changes.items():
        old = content.get(name)
        if isinstance(old, dict) and isinstance(value, dict) and name != "options":
            update(old, value)
        elif name in content:
            content[name] = value


def edit(folder: Path, file: str, old: str, new: str) -> None:
    """Replace the first `old` in a file of the copy."""
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))


def fly(folder: Path, server: str, *arguments: str, is_ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the flow as `make run` does, in a Prefect server that is there already."""
    return run(folder, "env", f"PREFECT_API_URL={server}", "python3", "flows/finetune.py", *arguments, is_ok=is_ok)


def repro(folder: Path, *targets: str) -> set[str]:
    """Run `dvc repro`; the names of the stages whose commands ran, without the task."""
    output = run(folder, "dvc", "repro", *targets).stdout
    return {name.split("@")[0] for name in re.findall(r"Running stage '([^']+)'", output)}
