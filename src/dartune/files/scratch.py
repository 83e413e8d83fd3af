"""Names for files that one process writes, by which others can tell that it was killed and left them behind."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from platform import node
from uuid import uuid4

import psutil


def unique_name() -> str:
    """Return a unique name that contains this machine (machines may share a folder) and this process."""
    return f"{node()}-{os.getpid()}-{uuid4().hex}"


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove the files and folders of dead processes of this machine. paths: with names that unique_name returned."""
    for path in paths:
        machine, process, _ = path.name.rsplit("-", 2)
        if machine == node() and not psutil.pid_exists(int(process)):
            # Other processes may be cleaning up too, so a path that is already gone is no error.
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
