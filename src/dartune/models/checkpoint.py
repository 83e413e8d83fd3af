"""Models on disk: the base model's folder, which holds weights or points to them, and tuned models on top of it."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from dartune.errors import UserError
from dartune.files.fingerprint import fingerprint

# Read when huggingface_hub and tqdm are imported, which is later. In a log, each update of a bar is a line.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

CORPUS = "corpus.parquet"  # fingerprints of the programs that the embedded model was trained on
BASE = "base.json"  # beside a tuned model: {"revision"} of the base model that it was tuned on
SOURCE = "source.json"  # {"model", "revision", "files"}: where the base model's weights are, and their fingerprint
LoadIn = Literal["8bit", "4bit"]


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
        raise UserError(f"base.model: {model!r} is no folder with a config.json; give a folder or a Hugging Face name")
    if not looks_local and (revision is None or len(revision) != 40):
        raise UserError(f"base.revision is {revision!r}: {model!r} needs the 40-digit commit, so that reruns agree")
    try:
        AutoConfig.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(f"base.model: {model!r} cannot be opened: {str(error).splitlines()[0]}") from error


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


def open_model(base: Path, tuned: Path | None = None, load_in: LoadIn | None = None) -> Any:
    """The base model, or the tuned one: an adapter on the base, or weights of its own. bf16 on a GPU, else float32.

    load_in: bits of the weights to open, None for all.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quiet()
    on_gpu = torch.cuda.is_available()
    options = {"dtype": torch.bfloat16 if on_gpu else torch.float32, "device_map": place(), **quantisation(load_in)}
    if tuned is not None:
        refuse_other_base(base, tuned)
    if tuned is not None and not is_adapter(tuned):
        return AutoModelForCausalLM.from_pretrained(str(tuned), **options)
    model = AutoModelForCausalLM.from_pretrained(**location(base), **options)
    return model if tuned is None else with_adapter(model, tuned).merge_and_unload()


def place() -> Any:
    """Where from_pretrained puts the weights: the GPU, of several processes each its own; None: the trainer does it."""
    import torch

    shares = any(os.environ.get(f"ACCELERATE_USE_{name}") == "true" for name in ("FSDP", "DEEPSPEED"))
    if not torch.cuda.is_available():
        return "cpu"
    return None if shares else {"": int(os.environ.get("LOCAL_RANK", 0))}


def quantisation(load_in: LoadIn | None) -> dict[str, Any]:
    """Arguments of from_pretrained for weights in 8 bits (arXiv 2208.07339) or 4 (arXiv 2305.14314)."""
    if load_in is None:
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    if not torch.cuda.is_available():
        raise UserError(f"train.load_in is {load_in}, which needs a GPU, and there is none; set it to null")
    if find_spec("bitsandbytes") is None:
        raise UserError(f"train.load_in is {load_in}, which needs bitsandbytes: pip install -r requirements-gpu.in")
    if load_in == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    four = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.bfloat16}
    return {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, **four)}


def is_adapter(tuned: Path) -> bool:
    return (tuned / "adapter_config.json").exists()


def with_adapter(model: Any, tuned: Path, *, is_trainable: bool = False) -> Any:
    """The model with a tuned adapter on it, or a UserError where the two do not fit."""
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(tuned), is_trainable=is_trainable)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{tuned}: this adapter does not fit the base model; train it anew ({reason})") from error


def refuse_other_base(base: Path, tuned: Path) -> None:
    """A UserError where a tuned model says that it was tuned on another base model."""
    file = tuned / BASE
    expected = json.loads(file.read_text())["revision"] if file.exists() else None
    if expected and expected != revision(base):
        raise UserError(f"{tuned} was tuned on base model {expected}, and {base} is {revision(base)}; train it anew")


def note_base(base: Path, tuned: Path) -> None:
    """Write beside a tuned model on which base model it was tuned."""
    (tuned / BASE).write_text(json.dumps({"revision": revision(base)}) + "\n")


def save_model(model: Any, folder: Path, weights: Any = None) -> None:
    """Weights, or the adapter that is trained; the copy that TRL keeps as the reference is not part of it.

    weights: those to save, by name, where the model has only a share of them.
    """
    only = {"selected_adapters": ["default"]} if hasattr(model, "peft_config") else {}
    model.save_pretrained(folder, state_dict=weights, **only)


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
