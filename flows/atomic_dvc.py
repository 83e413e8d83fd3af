"""DVC that writes dvc.lock and its lock file atomically.

DVC itself writes them in place: a kill or a full disk while it does so leaves half a file, and no later run can start.

Run as a script, with DVC's own arguments. The method replaced here is not public: requirements.in pins DVC exactly.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc_objects.fs.local import FsspecLocalFileSystem

from supervisor import adopt_orphans, kill_descendants

ATOMIC = ("dvc.lock", "rwlock")
PARTS = Path(".dvc/tmp")  # on the same disk as both, and not in git; DVC writes each under a lock, so one name will do
ORIGINAL_OPEN: Any = FsspecLocalFileSystem.open
GRACE_S = 2.0


def atomic_open(self: Any, path: str, mode: str = "r", encoding: str | None = None, **kwargs: Any) -> Any:
    """Take the place of FsspecLocalFileSystem.open."""
    if "w" in mode and Path(path).name in ATOMIC and PARTS.is_dir():
        return atomic_write(Path(path), mode, encoding)
    return ORIGINAL_OPEN(self, path, mode=mode, encoding=encoding, **kwargs)


@contextmanager
def atomic_write(file: Path, mode: str = "w", encoding: str | None = "utf-8") -> Iterator[Any]:
    """Yield a stream to another file, renamed to `file` once it is on the disk. If the block fails, `file` stays."""
    partial = PARTS / f"{file.name}.partial"
    try:
        with partial.open(mode, encoding=encoding) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def end_stage(*_: object) -> None:
    """On SIGTERM, which also comes when the supervisor was killed, end all children."""
    kill_descendants(GRACE_S)
    sys.exit(128 + signal.SIGTERM)  # DVC releases its locks


if __name__ == "__main__":
    FsspecLocalFileSystem.open = atomic_open  # type: ignore[method-assign]
    adopt_orphans()
    signal.signal(signal.SIGTERM, end_stage)
    from dvc.cli import main

    sys.exit(main(sys.argv[1:]))
