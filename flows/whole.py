"""DVC whose dvc.lock and lock file are whole at any moment: it writes them in place, so that a kill or a full disk cuts
them, and no run can begin any more.

Run as a script, with DVC's own arguments. What it replaces is no public interface: requirements.in pins DVC exactly.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc_objects.fs.local import FsspecLocalFileSystem

NAMES = ("dvc.lock", "rwlock")
PARTS = Path(".dvc/tmp")  # beside both, and not in git; DVC writes either under a lock, so one name is enough
OPEN = FsspecLocalFileSystem.open


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


if __name__ == "__main__":
    mend()
    from dvc.cli import main

    sys.exit(main(sys.argv[1:]))
