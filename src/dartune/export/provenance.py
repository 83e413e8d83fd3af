"""Provenance: what dvc.lock and git say about the files that the stages made for a task.

dvc.lock records each stage separately, so after an interrupted run it can list a new model beside old metrics. Such
mixtures are refused here, and so are files that changed since their stage wrote them.
"""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from dartune.errors import UserError

LOCK = Path("dvc.lock")
SHARED = ("embedded", "base")  # stages that run once for all tasks


class Run:
    """The last runs of a task's stages, and of stages embedded and base. Raises UserError where dvc.lock is missing."""

    def __init__(self, task: str) -> None:
        from ruamel.yaml import YAML

        try:
            entries = YAML(typ="safe").load(LOCK.read_text())["stages"]
        except FileNotFoundError as error:
            raise UserError(f"{LOCK} is missing; run from the root of the project, after `make run`") from error
        self.task = task
        self.entries = {name: entry for name, entry in entries.items() if name in SHARED or name.endswith(f"@{task}")}
        outs = ((name, out) for name, entry in self.entries.items() for out in entry["outs"])
        self.outs = {out["path"]: (name, out["md5"]) for name, out in outs}  # stage and hash by path

    def refuse_mixtures(self) -> None:
        """Raise UserError where the input of a stage is not what is recorded as the output of an earlier stage."""
        for stage, entry in self.entries.items():
            for path, used in ((dep["path"], dep["md5"]) for dep in entry.get("deps", [])):
                if path in self.outs and self.outs[path][1] != used:
                    raise UserError(f"{LOCK}: {stage} ran on another {path} than there is; run: dvc repro {stage}")

    def settings(self) -> dict[str, Any]:
        """Return the sections of params.yaml and its preset with which the stages ran, merged."""
        sections: dict[str, Any] = {}
        for files in (entry.get("params", {}) for entry in self.entries.values()):
            for name, values in (section for content in files.values() for section in content.items()):
                if isinstance(values, dict):  # a single value is of a section that another stage has as a whole
                    sections[name] = sections.get(name, {}) | values
        return sections

    def source(self, path: str) -> tuple[str, str, str]:
        """Return the output that is this file, or a folder around it, with its stage and its hash in dvc.lock.

        Raises UserError where no stage is recorded to have made it.
        """
        for out, (stage, md5) in self.outs.items():
            if path == out or path.startswith(f"{out}/"):
                return out, stage, md5
        raise UserError(f"{LOCK} does not say what made {path}; run: dvc repro evaluate@{self.task} search@{self.task}")

    def file(self, path: str) -> Path:
        """Return a file or folder. Raises UserError where it is missing or changed since its stage wrote it."""
        out, stage, recorded = self.source(path)
        if not Path(path).exists():
            raise UserError(f"{path} is missing; {stage} makes it: dvc checkout, or dvc repro {stage}")
        if md5(Path(out)) != recorded:
            raise UserError(f"{out} is not what {stage} made, by {LOCK}: dvc checkout, or dvc repro {stage}")
        return Path(path)

    def metrics(self, path: str) -> dict[str, Any]:
        """Return the content of a metrics file. Raises what `file` raises."""
        return dict(json.loads(self.file(path).read_text()))

    def hash_of(self, path: str) -> str:
        """Return the hash in dvc.lock. It hashes folders as a whole; a file inside one is hashed here."""
        out, _, recorded = self.source(path)
        return recorded if path == out else md5(self.file(path))


def md5(path: Path) -> str:
    """Return the hash of a file or folder, computed as DVC does."""
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "md5").hexdigest()
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    listing = [{"md5": md5(file), "relpath": name} for name, file in files]
    return hashlib.md5(json.dumps(listing).encode()).hexdigest() + ".dir"


def first_commit(recorded: str) -> str | None:
    """Return the earliest commit whose dvc.lock has this hash; None where there is none, or no git."""
    commits = (git("log", "--format=%H", f"-S{recorded}", "--", str(LOCK)) or "").split()
    return commits[-1] if commits else None


def git(*arguments: str) -> str | None:
    """Return what git prints, None where it fails or is not installed."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
