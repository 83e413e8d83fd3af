"""The code that a stage runs: the modules that its script imports, each with a hash that comments do not change.

Stage `modules` writes these hashes down, so that DVC, which does not see Python's imports, knows what a stage depends
on. Batches of a killed stage are kept under the same hashes.

A closure stops at DOORS: what is behind them decides verdicts, and reaches other stages through data/referee.
"""

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from dartune.files.atomic import write_json

PACKAGE = Path(__file__).resolve().parents[1]
DOORS = ("dartune.referee.referee", "dartune.referee.completions")


def closure(*starts: str | Path, within: str = "dartune", stops: tuple[str, ...] = DOORS) -> dict[str, str]:
    """Return {module or data file: 16 hexadecimal digits} of the starts and of all that they import, sorted.

    starts: module names, or paths of scripts or other files. within: only modules of this package are followed. stops:
    modules that are neither followed nor listed, unless they are a start. Imports inside functions count. Files beside
    a module that its text names (`macros.sql`, `sql/`, `report.html.jinja`) are listed with a hash of their bytes;
    folders of modules, which hold plug-ins that are found by name, are not.
    """
    hashes: dict[str, str] = {}
    waiting = list(starts)
    seen = set(starts)
    while waiting:
        start = waiting.pop()
        file = start if isinstance(start, Path) else module_file(start)
        if file is None:
            continue
        if file.suffix != ".py":
            hashes[label(file)] = bytes_hash(file)
            continue
        hashes[label(file)] = code_hash(file.read_text())
        hashes |= {label(other): bytes_hash(other) for other in data_files(file)}
        found = {name for name in imported(file) if is_within(name, within) and name not in stops}
        waiting += sorted(found - seen)
        seen |= found
    return dict(sorted(hashes.items()))


@cache
def code_fingerprint(*starts: str | Path, within: str = "dartune") -> str:
    """Return one hash of the closure of these modules, for the keys of unfinished work. Computed once a process."""
    content = closure(*starts, within=within)
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def is_within(name: str, package: str) -> bool:
    """Return whether a module is the package or inside it."""
    return name == package or name.startswith(package + ".")


def module_file(name: str) -> Path | None:
    """Return the file of a module of this package, None for a name that is no module (a function, say)."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def label(file: Path) -> str:
    """Return a name that does not depend on where the project lies: dartune/pairs/sample.py, stages/sample.py."""
    if file.is_relative_to(PACKAGE.parent):
        return file.relative_to(PACKAGE.parent).as_posix()
    return f"{file.parent.name}/{file.name}"


def imported(file: Path) -> set[str]:
    """Return the modules of this package in all import statements of a file."""
    return {name for name in references(file.read_text())[0] if module_file(name)}


def data_files(file: Path) -> Iterator[Path]:
    """Yield the files that are no modules and that the text of this one names, in folders too."""
    _, names, folders = references(file.read_text())
    yield from (path for name in names if (path := file.parent / name).is_file())
    yield from (path for folder in folders for path in sorted((file.parent / folder).glob("*.sql")))


@cache
def references(text: str) -> tuple[set[str], list[str], list[str]]:
    """Return what a module's text refers to: dotted names that it imports, names of files, and names of folders.

    Some dotted names are of functions; folders are those written as Path(__file__).parent / "name".
    """
    names, files, folders = set[str](), list[str](), list[str]()
    for node in ast.walk(tree(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and str(node.value).endswith((".sql", ".jinja")):
            files.append(str(node.value))
        elif isinstance(node, ast.BinOp) and ast.unparse(node.left) == "Path(__file__).parent":
            folders.append(str(getattr(node.right, "value", "")))
    return {name for name in names if is_within(name, "dartune")}, files, folders


@cache
def tree(text: str) -> ast.Module:
    """Return the syntax tree, computed once for equal texts."""
    return ast.parse(text)


def bytes_hash(file: Path) -> str:
    """Return a hash of a file as it is, for texts in which everything counts."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


@cache
def code_hash(text: str) -> str:
    """Return a hash of a module's text without comments, docstrings and blank lines.

    Of the text, not of the syntax tree: trees differ between versions of Python, and no stage may rerun for that.
    """
    return hashlib.sha256("\n".join(code_lines(text)).encode()).hexdigest()[:16]


def code_lines(text: str) -> Iterator[str]:
    """Yield the lines that are neither blank nor in a docstring, without comments; blanks inside a string stay."""
    docstrings = docstring_lines(tree(text))
    comments, inside_text = {}, set[int]()
    start_of_text = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        if name == "COMMENT":
            comments[token.start[0]] = token.start[1]
        if name in ("STRING", "FSTRING_START"):
            start_of_text = token.start[0]
        if name in ("STRING", "FSTRING_END"):  # lines whose end lies inside a text: there, blanks count
            inside_text |= set(range(start_of_text, token.end[0]))
    for number, line in enumerate(text.split("\n"), 1):
        if number in docstrings:
            continue
        line = line[: comments.get(number)]
        if number in inside_text:
            yield line
        elif line.strip():
            yield line.rstrip()


def docstring_lines(module: ast.Module) -> set[int]:
    """Return the numbers of all lines of docstrings, from 1."""
    lines: set[int] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            lines |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def write_modules(
    stages: Path,
    output: Path,
    *,
    tasks: dict[str, Path],
    learnt: list[str],
    remembered: list[str],
    transferred: list[str],
    trainers: dict[str, Any],
) -> None:
    """Write what DVC hashes instead of source files, one JSON object a file: {module or data file: hash}.

    <stage>.json: of each script in `stages`. methods/<name>.json: of a search method. tasks/<name>/: what a task adds
    to the referee, its texts, its references. remembered.json: grammars and texts of the tasks that a training is
    probed with. tasks: folders, by name, of those that a run uses: others may be unfinished.
    learnt: tasks whose grammars the embedded model learns. Its stage depends on its own package and on these, and not
    on the helpers that it calls: no edit elsewhere shall train it anew, which takes the better part of an hour.
    transferred.json: all that decides evaluations of the tasks that a tuned model is tried on beside its own.
    trainers.json: the settings of the trainers in use, `trainers`, whose names DVC's templates cannot take from a list.
    """
    for script in sorted(stages.glob("*.py")):
        write_json(output / f"{script.stem}.json", stage_closure(script, [tasks[name] for name in learnt]))
    for method in sorted((PACKAGE / "pool" / "methods").glob("[!_]*.py")):
        write_json(output / f"methods/{method.stem}.json", closure(f"dartune.pool.methods.{method.stem}"))
    parts = {name: parts_of(folder) for name, folder in tasks.items()}
    for name, of_task in parts.items():
        for part, content in of_task.items():
            write_json(output / f"tasks/{name}/{part}.json", content)
    write_json(output / "trainers.json", trainers)
    write_json(output / "transferred.json", {name: parts[name] for name in transferred})
    probed = [tasks[name] for name in remembered]
    shown = {name: value for folder in probed for name, value in hashes(folder, "prompt.md", "template.py").items()}
    write_json(output / "remembered.json", closure(*map(grammar, probed)) | shown)


def parts_of(task: Path) -> dict[str, dict[str, str]]:
    """Return {"judging", "texts", "references"} of a task's folder."""
    return {
        "judging": closure(*judging(task)) | hashes(task, "template.py"),
        "texts": hashes(task, "prompt.md", "template.py"),
        "references": hashes(task, "references.json"),
    }


def hashes(folder: Path, *names: str) -> dict[str, str]:
    """Return the hashes of files in which everything counts."""
    return {label(folder / name): bytes_hash(folder / name) for name in names}


def stage_closure(script: Path, learnt: list[Path]) -> dict[str, str]:
    """Return what stage <script's name> depends on; of `embedded` its own package and the grammars it learns."""
    if script.stem == "embedded":
        package = "dartune.base_model"
        return closure(f"{package}.embedded", within=package) | closure(*map(grammar, learnt), within="dartune.tasks")
    return closure(script, stops=() if script.stem == "referee" else DOORS)


def grammar(task: Path) -> Path:
    """Return the module of program grammar in a task's folder."""
    return task / "grammar.py"


def judging(task: Path) -> list[Path]:
    """Return the files in a task's folder that decide verdicts: all but those that a model or a person reads."""
    others = {"__init__.py", "grammar.py", "template.py", "prompt.md", "references.json"}
    return [file for file in sorted(task.iterdir()) if file.is_file() and file.name not in others]
