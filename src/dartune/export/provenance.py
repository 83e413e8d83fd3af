"""Provenance: what dvc.lock says of the run behind a task's tuned model. No file is read that is not what a stage made.

dvc.lock remembers each stage by itself, so after half a run it can name a model and the figures of another one. Here
such records are refused, and so are files that are not those of the record.
"""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dartune.errors import UserError
from dartune.export.lineage import LOCK, commit_of

BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Record:
    """A stage's entry in dvc.lock. deps, outs: hashes by path. settings: its parameters by section."""

    address: str
    deps: dict[str, str]
    outs: dict[str, str]
    settings: dict[str, Any]

    def out(self, start: str, end: str = "") -> str:
        """The path of the one output that starts and ends like this."""
        found = [path for path in self.outs if path.startswith(start) and path.endswith(end)]
        if len(found) != 1:
            raise UserError(f"{LOCK}: {self.address} made {len(found)} {start}*{end}, not one; run: {self.repro}")
        return found[0]

    @property
    def stage(self) -> str:
        return self.address.split("@")[0]

    @property
    def repro(self) -> str:
        return f"dvc repro {self.address}"


class Run:
    """The stages behind a task's tuned model, as they ran last."""

    def __init__(self, task: str) -> None:
        self.task = task
        self._records = records(task)
        self._refuse_mixtures()

    def record(self, stage: str) -> Record:
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

    def has(self, stage: str) -> bool:
        return stage in self._records

    def maker(self, path: str) -> Record:
        """The stage that made a file, or a folder around it."""
        return self._made(path)[0]

    def file(self, path: str) -> Path:
        """A file or folder of the run, or a UserError where it is missing or another."""
        made, out = self._made(path)
        if not Path(path).exists():
            raise UserError(f"{path} is missing; stage {made.stage} makes it: dvc checkout, or {made.repro}")
        if md5(Path(out)) != made.outs[out]:
            raise UserError(f"{out} is not what stage {made.stage} made, by {LOCK}: dvc checkout, or {made.repro}")
        return Path(path)

    def hash_of(self, path: str) -> str:
        """As dvc.lock has it, which knows the folder alone of what is in a folder."""
        made, out = self._made(path)
        return made.outs[out] if path == out else md5(self.file(path))

    def figures(self, path: str, *keys: str) -> dict[str, Any]:
        """The content of a metrics file that has these keys."""
        content, made = json.loads(self.file(path).read_text()), self.maker(path)
        for key in keys:
            if key not in content:
                raise UserError(f"{path} has no {key!r}; run stage {made.stage} again: {made.repro}")
        return dict(content)

    def _made(self, path: str) -> tuple[Record, str]:
        """The stage and its output that is the file, or the folder around it."""
        if found := self._find(path):
            return found
        raise UserError(f"{LOCK} does not say what made {path}; run: dvc repro evaluate@{self.task}")

    def _find(self, path: str) -> tuple[Record, str] | None:
        """The same; None for what no stage makes."""
        found = ((record, out) for record in self._records.values() for out in record.outs if is_within(path, out))
        return next(found, None)

    def _refuse_mixtures(self) -> None:
        """A UserError where a stage ran on something else than what the stage before it made."""
        waiting, seen = [self.record("evaluate"), self.record("search")], set()
        while waiting:
            record = waiting.pop()
            seen.add(record.address)
            for path, found in record.deps.items():
                made, out = self._find(path) or (None, "")
                if made and out == path and made.outs[out] != found:
                    raise UserError(
                        f"{LOCK}: {record.address} ran on another {path} than there is; run: {record.repro}"
                    )
                if made and made.address not in seen:
                    waiting.append(made)


def is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def records(task: str) -> dict[str, Record]:
    """The entries of base and of all that ran for this task, by the stage's name."""
    from ruamel.yaml import YAML

    try:
        entries = YAML(typ="safe").load(LOCK.read_text())["stages"]
    except FileNotFoundError as error:
        raise UserError(f"{LOCK} is missing; run from the root of the project, after `make run`") from error
    own = {address: entry for address, entry in entries.items() if address == "base" or address.endswith(f"@{task}")}
    return {address.split("@")[0]: recorded(address, entry) for address, entry in own.items()}


def recorded(address: str, entry: dict[str, Any]) -> Record:
    deps, outs = ({each["path"]: each["md5"] for each in entry.get(kind, [])} for kind in ("deps", "outs"))
    settings: dict[str, Any] = {}
    for sections in entry.get("params", {}).values():
        for name, values in sections.items():
            settings[name] = settings.get(name, {}) | values if isinstance(values, dict) else values
    return Record(address, deps, outs, settings)


def md5(path: Path) -> str:
    """The hash that dvc.lock has of a file or folder."""
    if path.is_file():
        return md5_of_file(path)
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    listing = [{"md5": md5_of_file(file), "relpath": name} for name, file in files]
    return hashlib.md5(json.dumps(listing).encode()).hexdigest() + ".dir"


def md5_of_file(file: Path) -> str:
    digest = hashlib.md5()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def commits(run: Run) -> dict[str, Any]:
    """{"commit", "head", "is_dirty"}: the first commit with this model in dvc.lock, and the work tree's own state.

    All None where there is no git.
    """
    head = git("rev-parse", "HEAD")
    if head is None:
        return {"commit": None, "head": None, "is_dirty": None}
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit_of(run.hash_of(str(run.tuned))), "head": head, "is_dirty": changes != ""}


def git(*arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
