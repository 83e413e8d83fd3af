"""What a preset sets of params.yaml for the runs that choose it: its section `params`, dotted names with values.

All other sections of a preset are read with those of params.yaml, whichever run it is: see params.py.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dartune import params
from dartune.errors import UserError, nearest

BARE = re.compile(r"(?!(?:true|false|null|inf|nan)$)[a-z_][\w./-]*", re.IGNORECASE)  # texts that need no quotes


def dotted(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all sections and values with their names: train, train.seed."""
    for name, value in content.items():
        yield prefix + name, value
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{name}.")


def settings(name: str, file: Path = params.FILE) -> dict[str, Any]:
    """Return what a preset sets of params.yaml, by dotted name.

    Raises UserError where there is no such preset, for a name that params.yaml lacks, and for a section where its
    values are to be named: by DVC's -S it would be added to, by --set replaced. Raises what `word` raises.
    """
    names = sorted(path.stem for path in (file.parent / params.PRESETS).glob("*.yaml"))
    if name not in names:
        raise UserError(f"{params.PRESETS}: there is no preset {name!r}{nearest(name, names)}")
    source = file.parent / params.PRESETS / f"{name}.yaml"
    values = params.read(source).get(params.SETTINGS, {})
    if not isinstance(values, dict):
        raise UserError(f"{source}: {params.SETTINGS} is no section with values")
    known = dict(dotted(params.read(file)))
    for key, value in values.items():
        if key not in known or key == "preset":
            raise UserError(f"{source}: {params.SETTINGS}: {file} has no {key!r} to set{nearest(str(key), known)}")
        if isinstance(value, dict) and isinstance(known[key], dict):
            raise UserError(
                f"{source}: {params.SETTINGS}: {key} is a section; name its values, as in {key}.{next(iter(value))}"
            )
        word(value)
    return values


def options(name: str) -> str:
    """Return the options of `dvc exp run` for a run with the preset, which a shell splits into the right words.

    Raises UserError as `settings` and `word` do.
    """
    return " ".join(f"-S {key}={word(value)}" for key, value in {"preset": name, **settings(name)}.items())


def word(value: Any) -> str:
    """Return a value as -S reads it: text, [a,b], {a:1}, null. Raises UserError for a text with a blank."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{word(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(word, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    if re.search(r"\s", value):
        raise UserError(
            f"{params.SETTINGS}: {value!r} has a blank, at which a shell splits; set it in params.yaml itself"
        )
    return value if BARE.fullmatch(value) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
