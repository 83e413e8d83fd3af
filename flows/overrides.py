"""Values that a run writes into params.yaml or its preset, and what must be right before any stage runs."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.utils.serialize import loads_yaml, parse_yaml
from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from dartune.errors import UserError, nearest


def values(settings: list[str]) -> dict[str, Any]:
    """NAME=VALUE, the value read as in params.yaml: 3e-5 is a number."""
    for setting in settings:
        if "=" not in setting:
            raise UserError(f"--set {setting}: NAME=VALUE is expected, as in train.beta=0.2")
    return {name: loads_yaml(value) for name, value in (setting.split("=", 1) for setting in settings)}


def names(section: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, value in section.items():
        yield above + name
        if isinstance(value, dict):
            yield from names(value, f"{above}{name}.")


def files(overrides: dict[str, Any]) -> list[Path]:
    """params.yaml and the preset that it names, or will name."""
    params = Path("params.yaml")
    preset = overrides.get("preset", parse_yaml(params.read_text(), "params.yaml").get("preset"))
    return [params, *(file for file in [Path(f"presets/{preset}.yaml")] if file.exists())]


def places(overrides: dict[str, Any]) -> dict[Path, dict[str, Any]]:
    """The overrides by the file that has the value; a name that none has is a UserError."""
    present = files(overrides) if overrides else []
    known = {file: list(names(parse_yaml(file.read_text(), str(file)))) for file in present}
    found: dict[Path, dict[str, Any]] = {}
    for name, value in overrides.items():
        file = next((file for file, its in known.items() if name in its), None)
        if file is None:
            raise UserError(
                f"params.yaml: there is no {name!r}{nearest(name, [n for its in known.values() for n in its])}"
            )
        found.setdefault(file, {})[name] = value
    return found


class NullsSpelledOut(RoundTripRepresenter):
    """`null` stays `null`, where ruamel leaves the place empty. A subclass, since DVC writes dvc.lock ruamel's way."""


NullsSpelledOut.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def override(file: Path, overrides: dict[str, Any]) -> None:
    """Writes the values as an editor would: comments and all other lines stay."""
    yaml = YAML()
    yaml.Representer, yaml.preserve_quotes, yaml.width = NullsSpelledOut, True, 10_000
    params = yaml.load(file)
    for name, value in overrides.items():
        *above, last = name.split(".")
        section = params
        for each in above:
            section = section[each]
        section[last] = value
    yaml.dump(params, file)


@contextmanager
def checked() -> Iterator[None]:
    """The package looks at the parameters beside the block: wrong ones are a UserError now, not an error hours later."""
    if not Path("src/dartune/cli.py").exists():
        yield
        return
    command = [sys.executable, "-m", "dartune.cli", "check"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    check = subprocess.Popen(command, **pipes, text=True)
    try:
        yield
    finally:
        words = check.communicate()[0].strip() or "dartune check: refused the parameters without a word"
        if check.returncode:
            raise UserError(words.splitlines()[-1])


@contextmanager
def adjusted(overrides: dict[str, Any]) -> Iterator[None]:
    """Checked before anything is written and beside the block; what is refused leaves the files as they were."""
    wanted = places(overrides)
    before = {file: file.read_bytes() for file in wanted}
    for file, values in wanted.items():
        override(file, values)
    try:
        with checked():
            yield
    except UserError:
        for file, content in before.items():
            file.write_bytes(content)
        raise
