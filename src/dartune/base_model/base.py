"""Stage `base`: the base model, a copy of the embedded one or a pointer to another model, and how to run it."""

import shutil
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt

from dartune.models.checkpoint import point_to
from dartune.models.host import write_run
from dartune.tasks.forms import check_form

EMBEDDED = "embedded"


def write_base(
    output: Path,
    embedded: Path,
    *,
    model: str,
    revision: str | None,
    threads: PositiveInt | None,
    dtype: Literal["float32", "bfloat16"] | None,
    stop_after_program: bool,
    prompt: str,
) -> None:
    """Write the base model's folder.

    embedded: folder of the embedded model. model: "embedded", a name of `dartune fetch`, a GGUF file, a folder or a
    Hugging Face name. revision: 40-digit commit of a Hugging Face model. threads: of the CPU; null for all cores that a
    stage has. Another number gives other completions. dtype: in which a CPU computes; null for bfloat16 where the
    weights are stored so and the CPU multiplies it, else float32; a GPU always computes in bfloat16.
    stop_after_program: end each answer with the first whole fenced block that defines the task's function. prompt: the
    form of the task's prompt, a key of tasks/forms.py. Raises UserError where `model` cannot be opened, and for a form
    that does not exist.
    """
    check_form(prompt)
    if model == EMBEDDED:
        shutil.copytree(embedded, output)
    else:
        point_to(output, model, revision)
    write_run(output, threads=threads, dtype=dtype, stop_after_program=stop_after_program, prompt=prompt)
