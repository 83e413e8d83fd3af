"""Export: a tuned model as a folder for the Hugging Face Hub, which plain transformers and PEFT can open.

An adapter is copied, or merged into the base model's weights; whole weights are copied. The folder also has the
tokenizer, the task's prompt, the sampling settings that the model was measured with, and a model card.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from dartune.errors import UserError
from dartune.export.modelcard import PROMPT, base_model, model_card
from dartune.export.provenance import Run
from dartune.files import atomic
from dartune.models.checkpoint import BASE, is_adapter, open_model, open_tokenizer, pretrained_arguments
from dartune.tasks.task import Task

ADAPTER = "adapter_config.json"


def export(task: str, folder: Path, merge: bool) -> str:
    """Write the folder; return a line that describes it.

    merge: an adapter into the base model's weights. Raises UserError where the folder holds anything already, and where
    the files of the run are missing or do not belong together.
    """
    prompt = Task(task).prompt
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"export: {folder} exists; name a folder that does not, or an empty one")
    try:
        run = Run(task)
        has_adapter = is_adapter(run.tuned)
        merged = stored_dtype(run.base) if merge and has_adapter else None
        stays_adapter = has_adapter and not merged
        generation = measured_generation_config(run)
        card = model_card(run, is_adapter=stays_adapter, merged=merged)
    except UserError as mistake:
        raise UserError(f"export: {mistake}") from mistake

    def write(partial: Path) -> None:
        """Fill the folder. Copies follow DVC's links to its cache, and leave out what merging replaces."""
        left_out = shutil.ignore_patterns("README.md", BASE, *(["adapter_*"] if merged else []))
        shutil.copytree(run.tuned, partial, copy_function=shutil.copyfile, ignore=left_out)
        if merged:
            write_merged(run.base, run.tuned, merged, partial)
        if stays_adapter:
            name_base(partial / ADAPTER, base_model(run))
        generation.save_pretrained(partial)
        (partial / PROMPT).write_text(prompt)
        (partial / "README.md").write_text(card)

    atomic.publish(write, folder.resolve())
    kind = "an adapter" if stays_adapter else f"weights, merged, {merged}" if merged else "weights"
    return f"{folder}: {kind}, with tokenizer, {PROMPT} and model card (README.md)"


def stored_dtype(base: Path) -> str:
    """Return the dtype in which the base model's weights are stored, such as "bfloat16"."""
    return str(config_of(base).dtype or "float32").removeprefix("torch.")


def config_of(model: Path) -> Any:
    """Return the model's configuration. Raises UserError where it cannot be opened."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(**pretrained_arguments(model))
    except (OSError, ValueError) as error:
        raise UserError(f"{model}: the model cannot be opened: {str(error).splitlines()[0]}") from error


def write_merged(base: Path, tuned: Path, dtype: str, folder: Path) -> None:
    """Write the weights as stage evaluate opened them, rounded once to `dtype`, that of the stored base model."""
    import torch

    open_model(base, tuned).to(getattr(torch, dtype)).save_pretrained(folder)


def name_base(file: Path, base: dict[str, Any]) -> None:
    """Write the base model's name and revision, as on the Hub, into an adapter's configuration file."""
    config = json.loads(file.read_text())
    config |= {"base_model_name_or_path": base["name"], "revision": base["revision"]}
    file.write_text(json.dumps(config, indent=2) + "\n")


def measured_generation_config(run: Run) -> Any:
    """Return the GenerationConfig with the end-of-turn tokens and the sampling settings of stage evaluate.

    All settings are explicit: by default transformers samples from the 50 likeliest tokens only, and an adapter
    inherits the base model's repetition penalty.
    """
    from transformers import GenerationConfig

    measured = run.record("evaluate").settings["evaluate"]
    tokenizer, known = open_tokenizer(run.tuned), generation_config(run)
    eos, pad = known.eos_token_id, known.pad_token_id
    return GenerationConfig(
        bos_token_id=known.bos_token_id,
        eos_token_id=tokenizer.eos_token_id if eos is None else eos,
        pad_token_id=tokenizer.pad_token_id if pad is None else pad,
        do_sample=True,
        temperature=measured["temperature"],
        top_p=measured["top_p"],
        top_k=0,
        repetition_penalty=1.0,
    )


def generation_config(run: Run) -> Any:
    """Return the GenerationConfig of the tuned weights or of an adapter's base model, derived where none is stored."""
    from transformers import GenerationConfig

    model = run.base if is_adapter(run.tuned) else run.tuned
    where, config = pretrained_arguments(model), config_of(model)
    try:
        return GenerationConfig.from_pretrained(where.pop("pretrained_model_name_or_path"), **where)
    except OSError:
        return GenerationConfig.from_model_config(config)
