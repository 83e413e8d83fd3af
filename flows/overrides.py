"""Values that hold for one run: they are in params.yaml or its preset while it runs, and taken back when it ends.

The files are what DVC reads, so there is no other place for them. A journal in .work tells the next run what a killed
one left.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from dvc.utils.serialize import loads_yaml, parse_yaml
from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from dartune import presets
from dartune.errors import UserError, nearest
from dartune.params import SETTINGS


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Return {name: value} of NAME=VALUE texts, the values read as in params.yaml: 3e-5 is a number.

    Raises UserError for a text without "=".
    """
    for setting in settings:
        if "=" not in setting:
            raise UserError(f"--set {setting}: NAME=VALUE is expected, as in trainers.dpo.beta=0.2")
    return {name: loads_yaml(value) for name, value in (setting.split("=", 1) for setting in settings)}


def with_preset(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the preset sets that the overrides choose, if they choose one, and the overrides, which win.

    Raises UserError for an unknown preset, and for one that sets what params.yaml lacks.
    """
    by_preset = presets.settings(str(overrides["preset"])) if "preset" in overrides else {}
    return {**by_preset, **overrides}


def by_file(overrides: dict[str, Any]) -> dict[Path, dict[str, Any]]:
    """Return the overrides by the file that has the value: params.yaml, or the preset that it names or will name.

    Raises UserError for a name that neither has.
    """
    params = Path("params.yaml")
    content = parse_yaml(params.read_text(), "params.yaml")
    preset = Path(f"presets/{overrides.get('preset', content.get('preset'))}.yaml")
    known = {params: dict(presets.dotted(content))}
    if preset.exists():
        sections = parse_yaml(preset.read_text(), str(preset))
        known[preset] = dict(presets.dotted({name: sections[name] for name in sections if name != SETTINGS}))
    result: dict[Path, dict[str, Any]] = {}
    for name, value in overrides.items():
        file = next((file for file, names in known.items() if name in names), None)
        if file is None:
            everywhere = [known_name for names in known.values() for known_name in names]
            source = f"--set or the form, with the names of {' and '.join(map(str, known))}"
            raise UserError(f"{source}: there is no {name!r}{nearest(name, everywhere)}")
        result.setdefault(file, {})[name] = value
    return result


class ExplicitNull(RoundTripRepresenter):
    """Writes `null` where ruamel would leave the place empty. A subclass, since DVC writes dvc.lock ruamel's way."""


ExplicitNull.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


# {file: {"names": the overridden ones, "before": its text, "during": its text with the overrides}}
JOURNAL = Path(".work/overrides.json")
Journal = dict[str, dict[str, Any]]
ABSENT = object()


@contextmanager
def applied(overrides: dict[str, Any]) -> Iterator[None]:
    """Write the overrides, check them, and take them back when the block ends, however it does.

    Raises UserError for a name that is not known, and what `dartune check` says.
    """
    if not overrides:
        yield
        return
    journal = {str(file): with_overrides(file, values) for file, values in by_file(overrides).items()}
    write_whole(JOURNAL, json.dumps(journal))
    try:
        for file, texts in journal.items():
            write_whole(Path(file), texts["during"])
        check_params()
        yield
    finally:
        take_back()


def take_back() -> str:
    """Take back what the journal has, and delete it; return the files and names concerned, "" where there are none.

    A file that nobody edited meanwhile gets its bytes back. In an edited one every name that still has the value of the
    override gets its old value, and the edits stay. Raises DvcException where such a file is not valid YAML.
    """
    journal = read_journal()
    for file, texts in journal.items():
        if Path(file).exists():
            now = read_text(Path(file))
            before = texts["before"] if now == texts["during"] else merged(file, now, texts)
            if before != now:
                write_whole(Path(file), before)
    JOURNAL.unlink(missing_ok=True)
    return "; ".join(f"{file}: {', '.join(texts['names'])}" for file, texts in journal.items())


def read_journal() -> Journal:
    """Return the journal, empty where there is none."""
    content: Journal = json.loads(JOURNAL.read_text()) if JOURNAL.exists() else {}
    return content


def with_overrides(file: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the file's entry in the journal."""
    before = read_text(file)
    return {"names": list(overrides), "before": before, "during": edited(before, overrides)}


def merged(file: str, now: str, texts: dict[str, Any]) -> str:
    """Return an edited file with the overrides taken back that are still in it."""
    before, during, edit = (parse_yaml(text, file) for text in (texts["before"], texts["during"], now))
    left = [name for name in texts["names"] if value(edit, name) == value(during, name)]
    return edited(now, {name: value(before, name) for name in left}) if left else now


def value(content: Any, name: str) -> Any:
    """Return the value of a dotted name, ABSENT where an edit took it away."""
    for part in name.split("."):
        content = content.get(part, ABSENT) if isinstance(content, dict) else ABSENT
    return content


def edited(text: str, values: dict[str, Any]) -> str:
    """Return YAML with other values, as an editor would write them: comments and all other lines stay."""
    yaml = YAML()
    yaml.Representer, yaml.preserve_quotes, yaml.width = ExplicitNull, True, 10_000
    content = yaml.load(text)
    for name, new in values.items():
        *path, last = name.split(".")
        section = content
        for part in path:
            section = section[part]
        section[last] = new
    stream = StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()


def read_text(file: Path) -> str:
    """Return the content of a file with its line ends as they are."""
    return file.read_bytes().decode()


def write_whole(file: Path, text: str) -> None:
    """Write a file that a kill leaves as it was or as it should be. Its permissions stay."""
    file = file.resolve()
    partial = file.with_name(f".{file.name}.partial")
    partial.write_bytes(text.encode())
    if file.exists():
        partial.chmod(file.stat().st_mode)
    os.replace(partial, file)


def check_params() -> None:
    """Run `dartune check`, in a process of its own since it imports much. Raises UserError with its last line.

    As for the stages, the code is this folder's: the package that is installed may be another clone's.
    """
    if not Path("src/dartune/cli.py").exists():  # another pipeline, in tests
        return
    check = subprocess.run(
        [sys.executable, "-m", "dartune.cli", "check"],
        env=os.environ | {"PYTHONPATH": "src"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if check.returncode:
        raise UserError((check.stdout.strip() or "dartune check: failed without a message").splitlines()[-1])
