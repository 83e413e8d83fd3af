"""Values that a run writes into params.yaml before it starts, and what must be right before any stage runs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvc.utils.serialize import loads_yaml, parse_yaml
from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from dartune.mistake import Mistake, nearest


def values(settings: list[str]) -> dict[str, Any]:
    """NAME=VALUE, the value read as in params.yaml: 3e-5 is a number."""
    for setting in settings:
        if "=" not in setting:
            raise Mistake(f"--set {setting}: NAME=VALUE is expected, as in train.beta=0.2")
    return {name: loads_yaml(value) for name, value in (setting.split("=", 1) for setting in settings)}


def names(section: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, value in section.items():
        yield above + name
        if isinstance(value, dict):
            yield from names(value, f"{above}{name}.")


def refuse_unknown(overrides: dict[str, Any]) -> None:
    known = list(names(parse_yaml(Path("params.yaml").read_text(), "params.yaml"))) if overrides else []
    for name in overrides:
        if name not in known:
            raise Mistake(f"params.yaml: there is no {name!r}{nearest(name, known)}")


class NullsSpelledOut(RoundTripRepresenter):
    """`null` stays `null`, where ruamel leaves the place empty. A subclass, since DVC writes dvc.lock ruamel's way."""


NullsSpelledOut.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def override(overrides: dict[str, Any]) -> None:
    """Writes the values as an editor would: comments and all other lines stay."""
    yaml = YAML()
    yaml.Representer, yaml.preserve_quotes, yaml.width = NullsSpelledOut, True, 10_000
    params = yaml.load(Path("params.yaml"))
    for name, value in overrides.items():
        *above, last = name.split(".")
        section = params
        for each in above:
            section = section[each]
        section[last] = value
    yaml.dump(params, Path("params.yaml"))


def check() -> None:
    """Lets the package refuse wrong parameters now rather than hours later."""
    if not Path("src/dartune/cli.py").exists():
        return
    command = [sys.executable, "-m", "dartune.cli", "check"]
    checked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if checked.returncode:
        words = (checked.stdout + checked.stderr).strip() or "dartune check: refused the parameters without a word"
        raise Mistake(words.splitlines()[-1])


def adjust(overrides: dict[str, Any]) -> None:
    """Checked before anything is written and after; what is refused leaves params.yaml as it was."""
    refuse_unknown(overrides)
    before = Path("params.yaml").read_bytes() if overrides else b""
    if overrides:
        override(overrides)
    try:
        check()
    except Mistake:
        if overrides:
            Path("params.yaml").write_bytes(before)
        raise
