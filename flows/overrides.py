"""Values that a run writes into params.yaml or its preset, and the check of the parameters before any stage runs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvc.utils.serialize import loads_yaml, parse_yaml
from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from dartune.errors import UserError, nearest


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Return {name: value} of NAME=VALUE texts, the values read as in params.yaml: 3e-5 is a number.

    Raises UserError for a text without "=".
    """
    for setting in settings:
        if "=" not in setting:
            raise UserError(f"--set {setting}: NAME=VALUE is expected, as in trainers.dpo.beta=0.2")
    return {name: loads_yaml(value) for name, value in (setting.split("=", 1) for setting in settings)}


def dotted_names(section: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names of all values and sections: train, train.seed."""
    for name, value in section.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from dotted_names(value, f"{prefix}{name}.")


def by_file(overrides: dict[str, Any]) -> dict[Path, dict[str, Any]]:
    """Return the overrides by the file that has the value: params.yaml, or the preset that it names or will name.

    Raises UserError for a name that neither has.
    """
    if not overrides:
        return {}
    params = Path("params.yaml")
    content = parse_yaml(params.read_text(), "params.yaml")
    preset = Path(f"presets/{overrides.get('preset', content.get('preset'))}.yaml")
    known = {params: list(dotted_names(content))}
    if preset.exists():
        known[preset] = list(dotted_names(parse_yaml(preset.read_text(), str(preset))))
    result: dict[Path, dict[str, Any]] = {}
    for name, value in overrides.items():
        file = next((file for file, names in known.items() if name in names), None)
        if file is None:
            everywhere = [known_name for names in known.values() for known_name in names]
            raise UserError(f"params.yaml: there is no {name!r}{nearest(name, everywhere)}")
        result.setdefault(file, {})[name] = value
    return result


class ExplicitNull(RoundTripRepresenter):
    """Writes `null` where ruamel would leave the place empty. A subclass, since DVC writes dvc.lock ruamel's way."""


ExplicitNull.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def write(file: Path, overrides: dict[str, Any]) -> None:
    """Change values as an editor would: comments and all other lines stay."""
    yaml = YAML()
    yaml.Representer, yaml.preserve_quotes, yaml.width = ExplicitNull, True, 10_000
    content = yaml.load(file)
    for name, value in overrides.items():
        *path, last = name.split(".")
        section = content
        for part in path:
            section = section[part]
        section[last] = value
    yaml.dump(content, file)


def check_params() -> None:
    """Run `dartune check`, in a process of its own since it imports much. Raises UserError with its last line."""
    if not Path("src/dartune/cli.py").exists():  # another pipeline, in tests
        return
    check = subprocess.run(
        [sys.executable, "-m", "dartune.cli", "check"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if check.returncode:
        raise UserError((check.stdout.strip() or "dartune check: failed without a message").splitlines()[-1])


def apply(overrides: dict[str, Any]) -> None:
    """Write the overrides and check all parameters. On a UserError the files are as they were."""
    changes = by_file(overrides)
    before = {file: file.read_bytes() for file in changes}
    try:
        for file, values in changes.items():
            write(file, values)
        check_params()
    except UserError:
        for file, content in before.items():
            file.write_bytes(content)
        raise
