"""Where weights that `dartune fetch` brought lie. Knows no model by name, so that a new one reruns no stage."""

import json
import os
from pathlib import Path

from dartune.errors import UserError

GGUF = ".gguf"


def cache_folder() -> Path:
    """Return the folder of downloaded and converted weights: $DARTUNE_CACHE, or dartune/ in the user's cache."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("DARTUNE_CACHE") or user_cache_path("dartune"))


def is_short_name(model: str) -> bool:
    """Return whether a model is named as for `dartune fetch`: no path, no GGUF file and no name on the Hub."""
    return "/" not in model and not model.endswith(GGUF) and not Path(model).exists()


def record_file(name: str) -> Path:
    """Return the file that says where the weights of a fetched model lie."""
    return cache_folder() / f"{name}.json"


def record(name: str) -> dict[str, str]:
    """Return the record of a fetched model. Raises UserError where it was not fetched.

    {"what": the weights in words, "model": a name on the Hub or the path of a GGUF file, "revision": commit or SHA-256}
    """
    file = record_file(name)
    content = json.loads(file.read_text()) if file.exists() else {}
    if not content or (content["model"].endswith(GGUF) and not Path(content["model"]).exists()):
        raise UserError(
            f"base.model: {name} is not on this machine; run: dartune fetch {name}, or give a folder, a GGUF file or a"
            " Hugging Face name"
        )
    return dict(content)
