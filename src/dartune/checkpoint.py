"""Models on disk: the base model's folder, which holds weights or points to them, and tuned models on top of it."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dartune.journal import fingerprint
from dartune.mistake import Mistake

# Read when huggingface_hub and tqdm are imported, which is later. In a log, each update of a bar is a line.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

CORPUS = "corpus.parquet"  # fingerprints of the programs that the embedded model was trained on
SOURCE = "source.json"  # {"model", "revision", "files"}: where the base model's weights are, and their fingerprint


def quiet() -> None:
    """Turn off what the libraries say about each other's next release."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def point_to(folder: Path, model: str, revision: str | None) -> None:
    """Make the base folder a pointer to a Hugging Face model or a local folder, after looking that it is there."""
    check_exists(model, revision)
    folder.mkdir(parents=True, exist_ok=True)
    files = None if revision else fingerprint([Path(model)])  # other weights under the same path are another model
    source = {"model": model, "revision": revision, "files": files}
    (folder / SOURCE).write_text(json.dumps(source, indent=2) + "\n")


def check_exists(model: str, revision: str | None) -> None:
    """Refuse a model that cannot be opened, before anything long begins."""
    from transformers import AutoConfig

    looks_local = Path(model).exists() or model.startswith((".", "/", "~")) or model.count("/") != 1
    if looks_local and not (Path(model) / "config.json").exists():
        raise Mistake(f"base.model: {model!r} is no folder with a config.json; give a folder or a Hugging Face name")
    if not looks_local and (revision is None or len(revision) != 40):
        raise Mistake(f"base.revision is {revision!r}: {model!r} needs the 40-digit commit, so that reruns agree")
    try:
        AutoConfig.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        raise Mistake(f"base.model: {model!r} cannot be opened: {str(error).splitlines()[0]}") from error


def location(folder: Path) -> dict[str, Any]:
    """Arguments of from_pretrained for the base model of this folder."""
    if not (folder / SOURCE).exists():
        return {"pretrained_model_name_or_path": str(folder)}
    source = json.loads((folder / SOURCE).read_text())
    return {"pretrained_model_name_or_path": source["model"], "revision": source["revision"]}


def open_tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(**location(base))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def open_model(base: Path, tuned: Path | None = None) -> Any:
    """The base model, or the tuned one: an adapter on the base, or weights of its own. bf16 on a GPU, else float32."""
    import torch
    from transformers import AutoModelForCausalLM

    quiet()
    on_gpu = torch.cuda.is_available()
    options = {
        "dtype": torch.bfloat16 if on_gpu else torch.float32,
        "device_map": "cuda" if on_gpu else "cpu",
    }
    is_adapter = tuned is not None and (tuned / "adapter_config.json").exists()
    if tuned is not None and not is_adapter:
        return AutoModelForCausalLM.from_pretrained(str(tuned), **options)
    model = AutoModelForCausalLM.from_pretrained(**location(base), **options)
    if is_adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(tuned)).merge_and_unload()
    return model


def render(tokenizer: Any, prompt: str) -> list[dict[str, str]] | str:
    """The prompt as this model takes it: a user message where it has a chat template, else plain text."""
    return [{"role": "user", "content": prompt}] if tokenizer.chat_template else prompt


def answer(tokenizer: Any, completion: str) -> list[dict[str, str]] | str:
    """A completion in the same form, as the model's own turn."""
    return [{"role": "assistant", "content": completion}] if tokenizer.chat_template else completion


def prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of the prompt, up to where the model's answer begins."""
    if tokenizer.chat_template:
        messages = render(tokenizer, prompt)
        return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))
    return list(tokenizer(prompt)["input_ids"])


def revision(base: Path) -> str:
    """A name for exactly these weights: the commit of a Hugging Face model, else a hash of the files."""
    source = location(base)
    return source.get("revision") or fingerprint([Path(source["pretrained_model_name_or_path"])])


def text_fingerprint(program: str) -> int:
    """64 bits of a program's text."""
    return int.from_bytes(hashlib.sha256(program.strip().encode()).digest()[:8], "little")


def is_novel(base: Path) -> Callable[[str], bool] | None:
    """Whether a program is none of those that the embedded model has seen; None for other models."""
    if not (base / CORPUS).exists():
        return None
    seen = set(pq.read_table(base / CORPUS)["program"].to_pylist())
    return lambda program: text_fingerprint(program) not in seen
