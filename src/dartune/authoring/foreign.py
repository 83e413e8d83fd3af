"""`dartune task import`: an Evaluation of LLM4AD as the folder of a task, which its own code scores.

The name of such a task begins with PREFIX, so that it says wherever it stands that its scores can be forged.
"""

import ast
import json
import typing
from pathlib import Path
from typing import Any

from dartune.errors import UserError
from dartune.files import templates
from dartune.programs import foreign
from dartune.tasks.contract import PREFIX
from dartune.tasks.task import add_folders, folder_of

TEMPLATES = Path(__file__).parent / "foreign_task"
SEEDS = (1, 2, 3, 2024)  # of the splits, as in the template of instances.py


def import_task(origin: str, parent: Path) -> Path:
    """Write the task of a class, "MODULE:CLASS", into a folder in `parent`, and return that.

    Its reference is the template's score: LLM4AD has none. Raises UserError for what is no Evaluation of one function,
    and for one that draws the same instances from every seed.
    """
    try:
        evaluation = foreign.evaluation(origin, SEEDS[0])
        template, description = str(evaluation.template_program), str(evaluation.task_description)
    except (Exception, SystemExit) as error:  # whatever a package's code raises
        message = f"task: {origin}: {type(error).__name__}: {error}; expected MODULE:CLASS of an Evaluation of LLM4AD"
        raise UserError(" ".join(message.split())) from error
    folder = new_folder(origin, parent)
    program, function = template_of(template, origin)
    scores = {seed: score_of(origin, seed, program, function.name) for seed in SEEDS}
    if len(set(scores.values())) < len(SEEDS):
        raise UserError(f"task: {origin} draws the same instances from every seed, so no split would be held out")
    sign = 1 if scores[SEEDS[0]] > 0 else -1
    values: dict[str, Any] = {
        "origin": origin,
        "function": function.name,
        "n_arguments": len(function.args.args),
        "direction": "maximise" if sign > 0 else "minimise",
        "sign": sign,
    }
    folder.mkdir(parents=True)
    for file in TEMPLATES.glob("*.jinja"):
        (folder / file.stem).write_text(templates.render(file, **values) + "\n")
    (folder / "__init__.py").touch()
    (folder / "template.py").write_text(program)
    (folder / "prompt.md").write_text(" ".join(description.split()) + "\n")
    splits = dict(zip(("train", "validation", "test", "llm4ad"), SEEDS, strict=True))
    references = {split: [abs(scores[seed])] for split, seed in splits.items()}
    (folder / "references.json").write_text(json.dumps(references, indent=2) + "\n")
    return folder


def new_folder(origin: str, parent: Path) -> Path:
    """Return the folder for a class, named by the package that it is in. Raises UserError if the name is taken."""
    parts = [part for part in origin.partition(":")[0].split(".") if part != "evaluation"]
    folder = parent / f"{PREFIX}{parts[-1]}"
    add_folders()
    if folder.exists() or folder_of(folder.name):
        raise UserError(f"task: there is a task {folder.name}; rename or remove it")
    return folder


def template_of(text: str, origin: str) -> tuple[str, ast.FunctionDef]:
    """Return a template program with its imports alone, and its function. Raises UserError unless it has one."""
    tree = ast.parse(text)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    if len(functions) != 1:
        names = ", ".join(function.name for function in functions) or "none"
        raise UserError(f"task: the template of {origin} has the functions {names}; expected one")
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    known = {alias.asname or alias.name for node in imports for alias in node.names}
    used = {node.id for node in ast.walk(functions[0]) if isinstance(node, ast.Name)}
    lines = [ast.unparse(node) for node in imports]
    if lacking := sorted(used & set(typing.__all__) - known):  # LLM4AD imports these around the program
        lines.append(f"from typing import {', '.join(lacking)}")
    if "np" in used - known:
        lines.append("import numpy as np")
    source = ast.get_source_segment(text, functions[0])
    return "\n".join([*lines, "", "", f"{source}"]).lstrip() + "\n", functions[0]


def score_of(origin: str, seed: int, program: str, function: str) -> float:
    """Return the score of the template, run in this process. Raises UserError where it has none."""
    scope: dict[str, Any] = {}
    try:
        exec(compile(program, "template.py", "exec"), scope)  # the package's own program, as trusted as the package
        (score,) = foreign.score(origin, seed, scope[function])
    except (Exception, SystemExit) as error:  # whatever a package's code raises, or Refused
        message = f"task: {origin}: its template gets no score: {type(error).__name__}: {error}"
        raise UserError(" ".join(message.split())) from error
    return score
