"""What a run's form offers to choose from, as the files have it when the flow is deployed: a new file, a new choice."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from dartune import params
from dartune.errors import UserError
from dartune.tasks.task import TASK_FOLDER

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src/dartune"
AS_IS = "as in params.yaml"
NAMES = {
    "tasks": "tasks",
    "preset": "preset",
    "strategy": "sample.strategy",
    "method": "train.method",
}  # in params.yaml


def one_of(names: Iterable[str]) -> FieldInfo:
    """Return the annotation of a parameter that is AS_IS or one of the names. `dartune check` says which is wrong."""
    schema: dict[str, Any] = {"enum": [AS_IS, *sorted(names)]}
    return FieldInfo(json_schema_extra=schema)


def some_of(names: Iterable[str]) -> FieldInfo:
    """Return the annotation of a parameter that is a list of some of the names."""
    schema: dict[str, Any] = {"items": {"type": "string", "enum": sorted(names)}}
    return FieldInfo(json_schema_extra=schema)


def tasks() -> list[str]:
    """Return the names of all tasks but those of installed packages."""
    folders = {SOURCE / "tasks"}
    with suppress(UserError):  # the run says what is wrong with params.yaml
        folders.add(ROOT / str(params.read(ROOT / params.FILE).get(TASK_FOLDER, "")))
    return sorted({file.parent.name for folder in folders for file in folder.glob("*/prompt.md")})


def presets() -> list[str]:
    """Return the names of all presets."""
    return [file.stem for file in ROOT.glob("presets/*.yaml")]


def strategies() -> list[str]:
    """Return the names of all sampling strategies."""
    return [file.stem for file in SOURCE.glob("pairs/sql/*.sql")]


def trainers() -> list[str]:
    """Return the names of all trainers, without the half second that importing them takes."""
    file = SOURCE / "training/trainers.py"
    table = re.search(r"^TRAINERS\b.*$", file.read_text(), re.MULTILINE) if file.exists() else None
    return re.findall(r'"(\w+)":', table[0]) if table else []


def overrides(given: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides and choices as {dotted name: value}. Raises UserError for a name that is in both."""
    chosen = {NAMES[name]: value for name, value in choices.items() if value and value != AS_IS}
    for name in chosen.keys() & given.keys():
        raise UserError(f"overrides: {name} is {given[name]!r} here and {chosen[name]!r} in the form; give it once")
    return {**chosen, **given}
