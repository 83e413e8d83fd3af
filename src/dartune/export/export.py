"""Export: a tuned model as a folder for the Hugging Face Hub, which plain transformers and PEFT open.

An adapter stays one, or is merged into the base model's weights; weights stay as they are. With them come the
tokenizer, the task's prompt, the sampling that the model was measured with, and a model card.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from dartune.errors import UserError
from dartune.export.modelcard import PROMPT, base_model, markdown
from dartune.export.provenance import Run
from dartune.files import atomic
from dartune.models.checkpoint import BASE, is_adapter, location, open_model, open_tokenizer
from dartune.tasks.task import Task

ADAPTER = "adapter_config.json"


def export(task: str, folder: Path, merge: bool) -> str:
    """Write the folder and say what it holds. One that holds anything already is refused."""
    prompt = Task(task).prompt
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"export: {folder} exists; name a folder that does not, or an empty one")
    try:
        run = Run(task)
        has_adapter = is_adapter(run.tuned)
        merged = stored_dtype(run.base) if merge and has_adapter else None
        is_kept = has_adapter and not merged
        sampling = as_measured(run)
        card = markdown(run, is_adapter=is_kept, merged=merged)
    except UserError as mistake:
        raise UserError(f"export: {mistake}") from mistake

    def write(partial: Path) -> None:
        copy(run.tuned, partial, is_merged=merged is not None)
        if merged:
            write_merged(run.base, run.tuned, merged, partial)
        if is_kept:
            name_base(partial / ADAPTER, base_model(run))
        sampling.save_pretrained(partial)
        (partial / PROMPT).write_text(prompt)
        (partial / "README.md").write_text(card)

    atomic.publish(write, folder.resolve())
    kind = "an adapter" if is_kept else f"weights, merged, {merged}" if merged else "weights"
    return f"{folder}: {kind}, with tokenizer, {PROMPT} and model card (README.md)"


def copy(tuned: Path, folder: Path, *, is_merged: bool) -> None:
    """The files themselves, also where DVC keeps links to its cache, without those that merging replaces."""
    left_out = shutil.ignore_patterns("README.md", BASE, *(["adapter_*"] if is_merged else []))
    shutil.copytree(tuned, folder, copy_function=shutil.copyfile, ignore=left_out)


def stored_dtype(base: Path) -> str:
    """The dtype of the base model's weights on the disk, such as "bfloat16"."""
    return str(config_of(base).dtype or "float32").removeprefix("torch.")


def config_of(model: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(**location(model))
    except (OSError, ValueError) as error:
        raise UserError(f"{model}: the model cannot be opened: {str(error).splitlines()[0]}") from error


def write_merged(base: Path, tuned: Path, dtype: str, folder: Path) -> None:
    """Weights as stage evaluate opened them, rounded once to the dtype that the base model has on the disk."""
    import torch

    open_model(base, tuned).to(getattr(torch, dtype)).save_pretrained(folder)


def name_base(file: Path, base: dict[str, Any]) -> None:
    """Have the adapter name the base model as others find it: by its name and revision on the Hub."""
    config = json.loads(file.read_text())
    config |= {"base_model_name_or_path": base["name"], "revision": base["revision"]}
    file.write_text(json.dumps(config, indent=2) + "\n")


def as_measured(run: Run) -> Any:
    """The generation_config.json: ends of a turn, and how the model was sampled when it was measured.

    What it does not say comes from elsewhere: transformers would cut to the 50 likeliest tokens, and below an adapter
    the base model brings a penalty of its own along.
    """
    from transformers import GenerationConfig

    measured = run.record("evaluate").settings["evaluate"]
    tokenizer, known = open_tokenizer(run.tuned), generation_config(run)
    return GenerationConfig(
        bos_token_id=known.bos_token_id,
        eos_token_id=first(known.eos_token_id, tokenizer.eos_token_id),
        pad_token_id=first(known.pad_token_id, tokenizer.pad_token_id),
        do_sample=True,
        temperature=measured["temperature"],
        top_p=measured["top_p"],
        top_k=0,
        repetition_penalty=1.0,
    )


def generation_config(run: Run) -> Any:
    """That of the tuned weights, or of the base model below an adapter; some models have none."""
    from transformers import GenerationConfig

    model = run.base if is_adapter(run.tuned) else run.tuned
    where, config = location(model), config_of(model)
    try:
        return GenerationConfig.from_pretrained(where.pop("pretrained_model_name_or_path"), **where)
    except OSError:
        return GenerationConfig.from_model_config(config)


def first(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value
