"""GGUF files: weights as llama.cpp stores them, mostly quantised. Each is converted once to what transformers opens.

The converted folder lies in the user's cache, outside git and DVC's cache, under the SHA-256 of the file.
"""

import hashlib
import json
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

from dartune.errors import UserError
from dartune.files.atomic import publish
from dartune.models.fetched import cache_folder

ORIGIN = "gguf.json"  # in a converted folder: {"sha256", "architecture", "quantisation"}


@cache
def sha256(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits, computed once a process."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def converted_folder(file: Path) -> Path:
    """Return where a GGUF file's converted weights lie or will lie. Raises UserError where there is no such file."""
    if not file.is_file():
        raise UserError(f"base.model: there is no file {file}")
    return cache_folder() / "converted" / sha256(file)[:16]


def header(file: Path) -> dict[str, Any]:
    """Return read_header(file), from the converted folder where there is one: reading the file takes up to 20 s."""
    origin = converted_folder(file) / ORIGIN
    content: dict[str, Any] = json.loads(origin.read_text()) if origin.exists() else read_header(file)
    return content


def converted(file: Path) -> Path:
    """Return the folder with a GGUF file's weights in bf16 and its tokenizer; convert it at the first call.

    Raises UserError where the file is missing, cut, of an architecture that transformers does not read, or too large
    for the disk.
    """
    folder = converted_folder(file)
    if not (folder / ORIGIN).exists():
        header = read_header(file)
        refuse_full_disk(file, folder, header["n_parameters"])
        print(f"base: {file.name} ({header['quantisation']}) is converted to {folder}", file=sys.stderr, flush=True)
        publish(lambda partial: convert(file, partial, header), folder)
    return folder


def read_header(file: Path) -> dict[str, Any]:
    """Return {"architecture", "quantisation", "n_parameters"} of a GGUF file. Raises UserError where it is cut."""
    from gguf import GGUFReader, LlamaFileType

    try:
        reader = GGUFReader(file)
        n_bytes = max((tensor.data_offset + tensor.n_bytes for tensor in reader.tensors), default=0)
        kind = reader.fields["general.file_type"].contents()
        architecture = reader.fields["general.architecture"].contents()
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(f"base.model: {file} is no whole GGUF file ({str(error).splitlines()[0]})") from error
    if n_bytes > file.stat().st_size:
        raise UserError(f"base.model: {file} is cut: {file.stat().st_size} of {n_bytes} bytes; fetch it again")
    n_parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
    quantisation = LlamaFileType(kind).name.removeprefix("MOSTLY_")
    return {"architecture": architecture, "quantisation": quantisation, "n_parameters": n_parameters}


def refuse_full_disk(file: Path, folder: Path, n_parameters: int) -> None:
    """Raise UserError where the cache's disk has no room for the weights in bf16."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed, free = 2 * n_parameters, shutil.disk_usage(folder.parent).free
    if free < 1.05 * needed:
        raise UserError(
            f"base.model: {file} converted takes {needed / 2**30:.1f} GiB, and {folder.parent} has"
            f" {free / 2**30:.1f} GiB left; set DARTUNE_CACHE to a folder on another disk"
        )


def convert(file: Path, folder: Path, header: dict[str, Any]) -> None:
    """Write a GGUF file's weights in bf16, its tokenizer and settings into a new folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # in a log, every update of a bar is a line
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it advises another dtype, for models that are run as they are
    named = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        opened = AutoModelForCausalLM.from_pretrained(**named, dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(**named)
    except (ValueError, KeyError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"base.model: {file} ({header['architecture']}) cannot be opened: {reason}") from error
    finally:
        logging.set_verbosity(verbosity)
    # transformers keeps a quantization_config, and then refuses to save what it has dequantised.
    config = opened.config
    del config.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(opened.state_dict(), assign=True)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / ORIGIN).write_text(json.dumps({"sha256": sha256(file)} | header, indent=2) + "\n")
