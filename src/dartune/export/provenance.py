"""Provenance: what dvc.lock says about the run behind a task's tuned model.

dvc.lock records each stage separately, so after an interrupted run it can list a new model beside old metrics. Such
mixtures are refused here, and so are files that changed since their stage wrote them.
"""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dartune.errors import UserError
from dartune.export.lineage import LOCK, commit_of, read_lock


@dataclass(frozen=True)
class Record:
    """A stage's entry in dvc.lock. deps, outs: hashes by path. settings: its parameters by section."""

    address: str
    deps: dict[str, str]
    outs: dict[str, str]
    settings: dict[str, Any]

    def out(self, start: str, end: str = "") -> str:
        """Return the path of the one output that starts and ends like this. Raises UserError where it is not one."""
        paths = [path for path in self.outs if path.startswith(start) and path.endswith(end)]
        if len(paths) != 1:
            raise UserError(f"{LOCK}: {self.address} made {len(paths)} {start}*{end}, not one; run: {self.repro}")
        return paths[0]

    @property
    def stage(self) -> str:
        """The stage's name without the task."""
        return self.address.split("@")[0]

    @property
    def repro(self) -> str:
        """The command that runs the stage again."""
        return f"dvc repro {self.address}"


class Run:
    """The stages behind a task's tuned model, as they ran last.

    Raises UserError where the inputs of a stage are not the recorded outputs of the stages before it.
    """

    def __init__(self, task: str) -> None:
        self.task = task
        self._records = {
            address.split("@")[0]: record(address, entry)
            for address, entry in read_lock().items()
            if address == "base" or address.endswith(f"@{task}")
        }
        self._refuse_mixtures()

    def has(self, stage: str) -> bool:
        """Return whether the stage ran."""
        return stage in self._records

    def record(self, stage: str) -> Record:
        """Return the stage's entry. Raises UserError where it never ran."""
        if stage not in self._records:
            address = "base" if stage == "base" else f"{stage}@{self.task}"
            raise UserError(f"{LOCK} knows no stage {address}; run it first: dvc repro {address}")
        return self._records[stage]

    @cached_property
    def base(self) -> Path:
        """The base model's folder."""
        return self.file(self.record("base").out("models/"))

    @cached_property
    def tuned(self) -> Path:
        """The folder of the model that stage evaluate compared with the base."""
        (path,) = (dep for dep in self.record("evaluate").deps if dep.startswith("models/") and dep != str(self.base))
        return self.file(path)

    def maker(self, path: str) -> Record:
        """Return the stage that made a file, or a folder around it. Raises UserError for what no stage made."""
        return self._source(path)[0]

    def file(self, path: str) -> Path:
        """Return a file or folder of the run. Raises UserError where it is missing or was changed."""
        maker, out = self._source(path)
        if not Path(path).exists():
            raise UserError(f"{path} is missing; stage {maker.stage} makes it: dvc checkout, or {maker.repro}")
        if md5(Path(out)) != maker.outs[out]:
            raise UserError(f"{out} is not what stage {maker.stage} made, by {LOCK}: dvc checkout, or {maker.repro}")
        return Path(path)

    def hash_of(self, path: str) -> str:
        """Return the hash in dvc.lock. It hashes folders as a whole; a file inside one is hashed here."""
        maker, out = self._source(path)
        return maker.outs[out] if path == out else md5(self.file(path))

    def metrics(self, path: str, *keys: str) -> dict[str, Any]:
        """Return the content of a metrics file. Raises UserError where it lacks one of the keys."""
        content, maker = json.loads(self.file(path).read_text()), self.maker(path)
        for key in keys:
            if key not in content:
                raise UserError(f"{path} has no {key!r}; run stage {maker.stage} again: {maker.repro}")
        return dict(content)

    def _source(self, path: str) -> tuple[Record, str]:
        if source := self._find(path):
            return source
        raise UserError(f"{LOCK} does not say what made {path}; run: dvc repro evaluate@{self.task}")

    def _find(self, path: str) -> tuple[Record, str] | None:
        """Return the stage and its output that is the file, or a folder around it; None for what no stage makes."""
        outs = ((record, out) for record in self._records.values() for out in record.outs)
        return next((place for place in outs if path == place[1] or path.startswith(f"{place[1]}/")), None)

    def _refuse_mixtures(self) -> None:
        waiting, seen = [self.record("evaluate"), self.record("search")], set()
        while waiting:
            record = waiting.pop()
            seen.add(record.address)
            for path, used in record.deps.items():
                maker, out = self._find(path) or (None, "")
                if maker and out == path and maker.outs[out] != used:
                    raise UserError(
                        f"{LOCK}: {record.address} ran on another {path} than there is; run: {record.repro}"
                    )
                if maker and maker.address not in seen:
                    waiting.append(maker)


def record(address: str, entry: dict[str, Any]) -> Record:
    """Return an entry of dvc.lock as a Record. Sections that params.yaml and a preset share are merged."""
    deps, outs = ({item["path"]: item["md5"] for item in entry.get(kind, [])} for kind in ("deps", "outs"))
    settings: dict[str, Any] = {}
    for sections in entry.get("params", {}).values():
        for name, values in sections.items():
            settings[name] = settings.get(name, {}) | values if isinstance(values, dict) else values
    return Record(address, deps, outs, settings)


def md5(path: Path) -> str:
    """Return the hash of a file or folder, computed as DVC does."""
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "md5").hexdigest()
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    listing = [{"md5": md5(file), "relpath": name} for name, file in files]
    return hashlib.md5(json.dumps(listing).encode()).hexdigest() + ".dir"


def commits(run: Run) -> dict[str, Any]:
    """Return {"commit", "head", "is_dirty"}: the first commit with this model in dvc.lock, and the work tree's state.

    All None where there is no git.
    """
    head = git("rev-parse", "HEAD")
    if head is None:
        return {"commit": None, "head": None, "is_dirty": None}
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit_of(run.hash_of(str(run.tuned))), "head": head, "is_dirty": changes != ""}


def git(*arguments: str) -> str | None:
    """Return what git prints, None where it fails or is not installed."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
