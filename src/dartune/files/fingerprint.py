"""Hashes of files and settings, the keys of cached results and of unfinished work."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def fingerprint(files: Iterable[Path], **settings: Any) -> str:
    """Return 16 hexadecimal digits over the contents of `files` (folders: every file in them) and the settings.

    Names of files inside a folder count, the folder's own path does not. Settings that JSON cannot hold count as text.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for file in files:
        for path in sorted(file.rglob("*")) if file.is_dir() else [file]:
            if path.is_file() and path.suffix != ".pyc":
                digest.update(str(path.relative_to(file)).encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
