"""DVC whose dvc.lock and lock file are whole at any moment: it writes them in place, so that a kill or a full disk cuts
them, and no run can begin any more.

Run as a script, with DVC's own arguments. What it replaces is no public interface: requirements.in pins DVC exactly.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from dvc_objects.fs.local import FsspecLocalFileSystem

from leash import adopt_orphans, descendants

NAMES = ("dvc.lock", "rwlock")
PARTS = Path(".dvc/tmp")  # beside both, and not in git; DVC writes either under a lock, so one name is enough
OPEN = FsspecLocalFileSystem.open
GRACE_S = 2.0


def opened(self: Any, path: str, mode: str = "r", encoding: str | None = None, **kwargs: Any) -> Any:
    if "w" in mode and Path(path).name in NAMES and PARTS.is_dir():
        return whole(Path(path), mode, encoding)
    return OPEN(self, path, mode=mode, encoding=encoding, **kwargs)


@contextmanager
def whole(file: Path, mode: str, encoding: str | None) -> Iterator[Any]:
    """Written under another name, and renamed once it is on the disk; nothing changes where the block fails."""
    partial = PARTS / f"{file.name}.partial"
    try:
        with partial.open(mode, encoding=encoding) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def mend() -> None:
    """Have this process's DVC write so."""
    FsspecLocalFileSystem.open = opened


def end_stage(*_: object) -> None:
    """On SIGTERM, which also comes when our leash was killed: nothing that we started outlives us."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = descendants()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        psutil.wait_procs(left, timeout=GRACE_S)
    sys.exit(128 + signal.SIGTERM)  # DVC puts its locks away


if __name__ == "__main__":
    mend()
    adopt_orphans()
    signal.signal(signal.SIGTERM, end_stage)
    from dvc.cli import main

    sys.exit(main(sys.argv[1:]))
