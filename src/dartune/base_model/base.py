"""Stage `base`: the base model, which is a copy of the embedded one or a pointer to another model."""

import shutil
from pathlib import Path

from dartune.models.checkpoint import point_to

EMBEDDED = "embedded"


def write_base(output: Path, embedded: Path, *, model: str, revision: str | None) -> None:
    """Write the base model's folder.

    embedded: folder of the embedded model. model: "embedded", a Hugging Face name or a folder. revision: 40-digit
    commit of a Hugging Face model. Raises UserError where `model` cannot be opened.
    """
    if model == EMBEDDED:
        shutil.copytree(embedded, output)
    else:
        point_to(output, model, revision)
