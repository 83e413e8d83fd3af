"""Names for what one process alone writes, by which its leftovers are known once it was killed."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from platform import node
from uuid import uuid4

import psutil


def own_name() -> str:
    """Unlike any other, and it tells this machine and this process: machines may share a folder."""
    return f"{node()}-{os.getpid()}-{uuid4().hex}"


def sweep(paths: Iterable[Path]) -> None:
    """Remove those of processes of this machine that are gone. Each path's name begins with an own_name."""
    for path in paths:
        machine, process, _ = path.name.rsplit("-", 2)
        if machine == node() and not psutil.pid_exists(int(process)):
            # Others sweep at the same time: what is gone by now is as good.
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
