"""This project, copied into a repository of its own with small parameters: real stages, real model, minutes.

For tests of the pipeline as a whole. For tests of the flow alone take toy_repository, which takes seconds.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

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
