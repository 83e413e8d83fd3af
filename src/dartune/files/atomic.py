"""Files and folders that appear complete or not at all, however the process ends."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def publish(write: Callable[[Path], object], folder: Path) -> None:
    """Have `write` fill a folder under another name, and rename it to `folder` once it is complete.

    An older folder of that name stays until then.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    write(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write `content` as indented JSON, keys in the order given, so that equal numbers give equal bytes.

    Raises ValueError for NaN and infinity, which JSON does not have.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
