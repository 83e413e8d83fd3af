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
from dartune.models.host import run_settings
from dartune.tasks.task import Task

ADAPTER = "adapter_config.json"


def export(task: str, folder: Path, merge: bool) -> str:
    """Write the folder; return a line that describes it.

    merge: an adapter into the base model's weights. Raises UserError where the folder holds anything already, and where
    the files of the run are missing or do not belong together.
    """
    name = Task(task).name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"export: {folder} exists; name a folder that does not, or an empty one")
    run = Run(name)
    run.refuse_mixtures()
    base, tuned = run.file("models/base"), run.file(f"models/final/{name}")
    prompt = Task(name, run_settings(base)["prompt"]).prompt
    try:
        merged = stored_dtype(base) if merge and is_adapter(tuned) else None
        stays_adapter = is_adapter(tuned) and not merged
        card = model_card(run, base, tuned, is_adapter=stays_adapter, merged=merged)
        generation = measured_generation_config(base, tuned, run.settings()["evaluate"])
    except (OSError, ValueError) as error:
        raise UserError(f"export: the model cannot be opened: {str(error).splitlines()[0]}") from error

    def write(partial: Path) -> None:
        """Fill the folder. Copies follow DVC's links to its cache, and leave out what merging replaces."""
        left_out = shutil.ignore_patterns("README.md", BASE, *(["adapter_*"] if merged else []))
        shutil.copytree(tuned, partial, copy_function=shutil.copyfile, ignore=left_out)
        if merged:
            write_merged(base, tuned, merged, partial)
        if stays_adapter:
            name_base(partial / ADAPTER, base_model(base))
        generation.save_pretrained(partial)
        (partial / PROMPT).write_text(prompt)
        (partial / "README.md").write_text(card)

    atomic.publish(write, folder.resolve())
    whole = "weights (there is no adapter to merge)" if merge else "weights"
    kind = "an adapter" if stays_adapter else f"weights, merged, {merged}" if merged else whole
    return f"{folder}: {kind}, with tokenizer, {PROMPT} and model card (README.md)"


def stored_dtype(base: Path) -> str:
    """Return the dtype in which the base model's weights are stored, such as "bfloat16"."""
    from transformers import AutoConfig

    return str(AutoConfig.from_pretrained(**pretrained_arguments(base)).dtype or "float32").removeprefix("torch.")


def write_merged(base: Path, tuned: Path, dtype: str, folder: Path) -> None:
    """Write the weights as stage evaluate opened them, rounded once to `dtype`, that of the stored base model."""
    import torch

    open_model(base, tuned).to(getattr(torch, dtype)).save_pretrained(folder)


def name_base(file: Path, base: dict[str, Any]) -> None:
    """Write the base model's name and revision, as on the Hub, into an adapter's configuration file."""
    config = json.loads(file.read_text())
    config |= {"base_model_name_or_path": base["name"], "revision": base["revision"]}
    file.write_text(json.dumps(config, indent=2) + "\n")


def measured_generation_config(base: Path, tuned: Path, measured: dict[str, Any]) -> Any:
    """Return the GenerationConfig with the end-of-turn tokens and the sampling settings of stage evaluate.

    measured: the section evaluate. All settings are explicit: by default transformers samples from the 50 likeliest
    tokens only, and an adapter inherits the base model's repetition penalty.
    """
    from transformers import AutoConfig, GenerationConfig

    where = pretrained_arguments(base if is_adapter(tuned) else tuned)
    name = where.pop("pretrained_model_name_or_path")
    try:
        stored = GenerationConfig.from_pretrained(name, **where)
    except OSError:  # none is stored
        stored = GenerationConfig.from_model_config(AutoConfig.from_pretrained(name, **where))
    tokenizer = open_tokenizer(tuned)
    return GenerationConfig(
        bos_token_id=stored.bos_token_id,
        eos_token_id=tokenizer.eos_token_id if stored.eos_token_id is None else stored.eos_token_id,
        pad_token_id=tokenizer.pad_token_id if stored.pad_token_id is None else stored.pad_token_id,
        do_sample=True,
        temperature=measured["temperature"],
        top_p=measured["top_p"],
        top_k=0,
        repetition_penalty=1.0,
    )
