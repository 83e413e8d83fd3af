"""Models on disk: the folder of the base model, which holds weights or a pointer to them, and tuned models.

Imports torch only when a model is opened.
"""

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
from dartune.models import fetched
from dartune.models.fetched import GGUF, is_short_name
from dartune.models.gguf import converted, header, sha256
from dartune.models.host import RUN, cpu_dtype, run_settings
from dartune.models.hub import check_access, is_cached
from dartune.programs.features import text_fingerprint

# huggingface_hub and tqdm read these when they are imported. In a log, every update of a progress bar is a line.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

CORPUS = "corpus.parquet"  # in the base folder: fingerprints of the programs that the embedded model was trained on
BASE = "base.json"  # in a tuned model's folder: {"revision"} of the base model that it was tuned on
SOURCE = (
    "source.json"  # in the base folder, instead of weights: {"model", "revision", "files", "weights"}; see point_to
)
LoadIn = Literal["8bit", "4bit"]


def quiet() -> None:
    """Silence the FutureWarnings of transformers, which concern its own dependencies."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def point_to(folder: Path, model: str, revision: str | None) -> None:
    """Make the base folder a pointer to a fetched or Hugging Face model, a GGUF file or a local folder.

    Raises what check_model raises.
    """
    check_model(model, revision)
    folder.mkdir(parents=True, exist_ok=True)
    files, weights = None, "as they are"
    if is_short_name(model):
        record = fetched.record(model)
        is_file, weights = record["model"].endswith(GGUF), record["what"]
        revision, files = (None, record["revision"]) if is_file else (record["revision"], None)
    elif model.endswith(GGUF):
        files, weights = sha256(Path(model)), f"quantised to {header(Path(model))['quantisation']}"
    elif revision is None:
        files = fingerprint([Path(model)])  # a local path may hold other weights later
    source = {"model": model, "revision": revision, "files": files, "weights": weights}
    (folder / SOURCE).write_text(json.dumps(source, indent=2) + "\n")


def weights_of(base: Path) -> str:
    """Return in words which weights the base model has, quantised ones above all."""
    if not (base / SOURCE).exists():
        return "as they are"
    return str(json.loads((base / SOURCE).read_text())["weights"])


def check_model(model: str, revision: str | None) -> None:
    """Raise a UserError if a model cannot be opened, before any long work.

    model: a name that `dartune fetch` knows, a GGUF file, a local folder, or a Hugging Face name with its 40-digit
    commit as revision.
    """
    name = fetched.record(model)["model"] if is_short_name(model) else model
    if name.endswith(GGUF):
        header(Path(name))
    if name.endswith(GGUF) or is_short_name(model):
        return
    looks_local = Path(model).exists() or model.startswith((".", "/", "~")) or model.count("/") != 1
    if looks_local and not (Path(model) / "config.json").exists():
        raise UserError(f"base.model: {model!r} is no folder with a config.json; give a folder or a Hugging Face name")
    if not looks_local and (revision is None or len(revision) != 40):
        raise UserError(f"base.revision is {revision!r}: {model!r} needs the 40-digit commit, so that reruns agree")
    from transformers import AutoConfig

    if not looks_local and not is_cached(model, revision):
        check_access(model, str(revision))
    try:
        AutoConfig.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(f"base.model: {model!r} cannot be opened: {str(error).splitlines()[0]}") from error


def pretrained_arguments(folder: Path) -> dict[str, Any]:
    """Return the arguments of from_pretrained that name the base model in this folder."""
    if not (folder / SOURCE).exists():
        return {"pretrained_model_name_or_path": str(folder)}
    source = json.loads((folder / SOURCE).read_text())
    name = fetched.record(source["model"])["model"] if is_short_name(source["model"]) else source["model"]
    if not name.endswith(GGUF):
        return {"pretrained_model_name_or_path": name, "revision": source["revision"]}
    if sha256(Path(name)) != source["files"]:
        raise UserError(f"{name} is another file than when {folder} was made; run: dvc repro -f base")
    return {"pretrained_model_name_or_path": str(converted(Path(name)))}


def open_tokenizer(base: Path) -> Any:
    """Return the base model's tokenizer, set to pad on the left; the end token is used if it has no padding token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(**pretrained_arguments(base))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def open_model(base: Path, tuned: Path | None = None, load_in: LoadIn | None = None) -> Any:
    """Return the base model, or the tuned one: the base model with the adapter merged in, or full weights.

    Their number_format is the base model's. load_in: quantise the weights to 8 or 4 bits. Raises UserError where the
    tuned model belongs to another base model or does not fit it, or where this machine cannot quantise.
    """
    from transformers import AutoModelForCausalLM

    quiet()
    options = {"dtype": number_format(base), "device_map": device_map(), **quantisation(load_in)}
    if tuned is not None:
        check_base(base, tuned)
    if tuned is not None and not is_adapter(tuned):
        return AutoModelForCausalLM.from_pretrained(str(tuned), **options)
    model = AutoModelForCausalLM.from_pretrained(**pretrained_arguments(base), **options)
    return model if tuned is None else open_adapter(model, tuned).merge_and_unload()


def number_format(base: Path) -> Any:
    """Return the torch.dtype in which a base model and those tuned on it are opened: on a GPU bfloat16."""
    import torch
    from transformers import AutoConfig

    if torch.cuda.is_available():
        return torch.bfloat16
    return cpu_dtype(run_settings(base)["dtype"], AutoConfig.from_pretrained(**pretrained_arguments(base)).dtype)


def device_map() -> Any:
    """Return the device_map of from_pretrained: the GPU of this process, "cpu", or None where the trainer shards."""
    import torch

    is_sharded = any(os.environ.get(f"ACCELERATE_USE_{name}") == "true" for name in ("FSDP", "DEEPSPEED"))
    if not torch.cuda.is_available():
        return "cpu"
    return None if is_sharded else {"": int(os.environ.get("LOCAL_RANK", 0))}


def quantisation(load_in: LoadIn | None) -> dict[str, Any]:
    """Return the arguments of from_pretrained for weights in 8 bits (arXiv 2208.07339) or 4 bits (arXiv 2305.14314).

    Raises UserError without a GPU or without bitsandbytes.
    """
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
    """Return whether a tuned model is an adapter on the base model rather than full weights."""
    return (tuned / "adapter_config.json").exists()


def open_adapter(model: Any, tuned: Path, *, is_trainable: bool = False) -> Any:
    """Return the model with the tuned adapter attached. Raises UserError where the two do not fit."""
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(tuned), is_trainable=is_trainable)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{tuned}: this adapter does not fit the base model; train it anew ({reason})") from error


def check_base(base: Path, tuned: Path) -> None:
    """Raise a UserError if the tuned model's folder names a different base model."""
    file = tuned / BASE
    expected = json.loads(file.read_text())["revision"] if file.exists() else None
    if expected and expected != revision(base):
        raise UserError(f"{tuned} was tuned on base model {expected}, and {base} is {revision(base)}; train it anew")


def write_base_revision(base: Path, tuned: Path) -> None:
    """Record in the tuned model's folder which base model it was tuned on."""
    (tuned / BASE).write_text(json.dumps({"revision": revision(base)}) + "\n")


def save_model(model: Any, folder: Path, weights: Any = None) -> None:
    """Save the weights, or only the trained adapter: TRL's copy of it for the reference model is left out.

    weights: the gathered weights by name, where this process holds only a shard.
    """
    only = {"selected_adapters": ["default"]} if hasattr(model, "peft_config") else {}
    model.save_pretrained(folder, state_dict=weights, **only)


def render(tokenizer: Any, prompt: str) -> list[dict[str, str]] | str:
    """Return the prompt as the model expects it: a user message if it has a chat template, else plain text."""
    return [{"role": "user", "content": prompt}] if tokenizer.chat_template else prompt


def render_completion(tokenizer: Any, completion: str) -> list[dict[str, str]] | str:
    """Return a completion in the same form, as an assistant message or plain text."""
    return [{"role": "assistant", "content": completion}] if tokenizer.chat_template else completion


def prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    """Return the token ids of the prompt, including what the chat template puts before a completion."""
    if tokenizer.chat_template:
        messages = render(tokenizer, prompt)
        return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))
    return list(tokenizer(prompt)["input_ids"])


def revision(base: Path) -> str:
    """Return what identifies the weights: a commit of the Hub, the SHA-256 of a GGUF file, else a hash of the files."""
    source = json.loads((base / SOURCE).read_text()) if (base / SOURCE).exists() else {}
    if len(source.get("files") or "") == 64:
        return str(source["files"])
    arguments = pretrained_arguments(base)
    folder = Path(arguments["pretrained_model_name_or_path"])
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != RUN]
    return arguments.get("revision") or fingerprint(files)


def is_novel(base: Path) -> Callable[[str], bool] | None:
    """Return a test of whether a program is new to the embedded model's training data; None for other models."""
    if not (base / CORPUS).exists():
        return None
    seen = set(pq.read_table(base / CORPUS)["program"].to_pylist())
    return lambda program: text_fingerprint(program) not in seen
