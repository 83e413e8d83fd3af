"""`dartune task new`: a folder with a small task that works, to be changed part by part into one's own."""

import shutil
from pathlib import Path

from dartune.errors import UserError
from dartune.tasks.task import add_folders, folder_of

NEW_TASK = Path(__file__).parent / "new_task"


def write_skeleton(name: str, parent: Path) -> Path:
    """Write a task of this name into a folder of that name in `parent`, and return it.

    Raises UserError where the name is none of a Python package or is taken.
    """
    folder = parent / name
    if not name.isidentifier():
        raise UserError(f"task: {name!r} is no name of a task; expected letters, digits and _")
    add_folders()
    if taken := folder_of(name):
        raise UserError(f"task: there is a task {name!r} in {taken.parent}; take another name")
    if folder.exists():
        raise UserError(f"task: {folder} exists; take another name or folder")
    if (NEW_TASK.parents[1] / "tasks" / f"{name}.py").exists():
        raise UserError(f"task: dartune.tasks has a module {name}; take another name")
    try:
        shutil.copytree(NEW_TASK, folder, ignore=shutil.ignore_patterns("__pycache__"))
    except OSError as error:
        raise UserError(f"task: {folder} cannot be written: {error.strerror}; take another folder") from error
    return folder
