"""params.yaml: one section per stage, whose schema is the keyword-only arguments of the stage's function.

`preset` names a file of presets/ with the values that depend on the model. No value is in both files.

Read with ruamel, a YAML 1.2 reader, because DVC writes floats such as 3e-05 that YAML 1.1 takes for strings.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from dartune.errors import UserError, nearest

FILE = Path("params.yaml")
PRESETS = "presets"  # beside params.yaml
SETTINGS = "params"  # section of a preset: what it sets of params.yaml, see presets.py


def read(file: Path = FILE) -> dict[str, Any]:
    """Return the content of a YAML file. Raises UserError where it is missing or does not parse."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe").load(file.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{file}: there is no such file; run from the root of the project") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error.reason})") from error
    except YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise UserError(f"{file}:{line} does not parse: {getattr(error, 'problem', error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected keys with values, found {type(content).__name__}")
    return content


def preset(content: Mapping[str, Any], file: Path = FILE) -> Path:
    """Return the file of the preset that params.yaml names. Raises UserError where there is none."""
    name, folder = str(content.get("preset")), file.parent / PRESETS
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise UserError(f"{file}: there is no preset {name!r}{nearest(name, names)}")
    return folder / f"{name}.yaml"


def everything(file: Path = FILE) -> dict[str, Any]:
    """Return params.yaml with the sections of its preset. Raises UserError for a value that both have.

    The preset's section `params`, which no stage reads, is among them: see presets.py.
    """
    content = read(file)
    if "preset" not in content:
        return content
    source = preset(content, file)
    for name, values in read(source).items():
        if name == SETTINGS:
            continue
        section = content.setdefault(name, {})
        if not isinstance(section, dict) or not isinstance(values, dict):
            raise UserError(f"{source}: {name} is no section with values")
        for key in set(section) & set(values):
            raise UserError(f"{file}: {name}.{key} stands in {source} too; take it out of one of them")
        content[name] = section | values
    return content


def section(name: str, function: Callable[..., Any], file: Path = FILE) -> dict[str, Any]:
    """Return the section of a stage, checked against its function. Raises UserError; see `check`."""
    return check(name, values(name, file), function, file)


def part(name: str, function: Callable[..., Any], file: Path = FILE) -> dict[str, Any]:
    """Return what a function takes of a section that another stage checks as a whole. Raises UserError; see `check`."""
    taken = {key: value for key, value in values(name, file).items() if key in schema(function)}
    return check(name, taken, function, file)


def values(name: str, file: Path) -> dict[str, Any]:
    """Return a section. Raises UserError where there is none."""
    content = everything(file)
    if not isinstance(content.get(name), dict):
        raise UserError(f"{file}: section {name!r} is missing{nearest(name, content)}")
    return dict(content[name])


def check(name: str, values: Mapping[str, Any], function: Callable[..., Any], file: Path = FILE) -> dict[str, Any]:
    """Return the values as the function's keyword-only arguments declare them.

    Raises UserError that names the first key that is unknown, missing or ill-typed.
    """
    fields = schema(function)
    for key in values:
        if key not in fields:
            raise UserError(f"{place(name, key, file)}: {name}.{key} is not a parameter{nearest(key, fields)}")
    for key in fields:
        if key not in values:
            raise UserError(f"{file}: {name}.{key} is missing; {function.__module__}.{function.__name__} needs it")
    model = create_model(name, __config__=ConfigDict(strict=True, protected_namespaces=()), **fields)
    try:
        return dict(model(**values))
    except ValidationError as error:
        first = error.errors()[0]
        where, key = place(name, str(first["loc"][0]), file), ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}: {name}.{key} is {first['input']!r}: {first['msg'].lower()}") from error


def place(name: str, key: str, file: Path) -> Path:
    """Return the file that has a value of a section: `file`, or the preset where `file` does not have it."""
    section: Any = read(file) if file.exists() else {}
    if "preset" not in section:
        return file
    source = preset(section, file)
    for part in name.split("."):
        section = section.get(part) or {}
    return file if key in section else source


def schema(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the keyword-only arguments as pydantic fields. None has a default: params.yaml has every value."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: (p.annotation, ...) for p in parameters if p.kind is p.KEYWORD_ONLY}
