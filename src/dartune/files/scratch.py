"""Names for files that one process writes, by which others can tell that it was killed and left them behind."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from platform import node
from uuid import uuid4

import psutil


def unique_name() -> str:
    """Return a name unlike any other that tells this machine, since machines may share a folder, and this process."""
    return f"{node()}-{os.getpid()}-{uuid4().hex}"


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove the files and folders of this machine's dead processes. paths: whose names begin with a unique_name."""
    for path in paths:
        machine, process, _ = path.name.rsplit("-", 2)
        if machine == node() and not psutil.pid_exists(int(process)):
            # Other processes do the same at the same time: what is gone already is no error.
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
