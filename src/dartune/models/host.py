"""How a model runs on this machine: threads, number format, and how many rows its memory holds side by side."""

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from dartune.errors import UserError

RUN = "run.json"  # in the base folder, see run_settings
# Of a folder without. The embedded model is stored in bfloat16, and computes in float32 on every CPU.
PLAIN = {"threads": 1, "dtype": "float32", "stop_after_program": False, "prompt": "plain"}
STAGES = "DARTUNE_STAGES"  # how many stages the flow runs side by side
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
SHARE = 0.5  # of a stage's part of the memory, for the keys and values of a model that writes


def write_run(folder: Path, **settings: Any) -> None:
    """Write into the base folder how its model is to be run: the arguments of write_base from `threads` on."""
    (folder / RUN).write_text(json.dumps(settings) + "\n")


def run_settings(base: Path) -> dict[str, Any]:
    """Return {"threads", "dtype", "stop_after_program", "prompt"} of a base folder, which decide what its model writes.

    dtype: None where the weights and the processor decide. prompt: the form of the task's prompt.
    """
    file = base / RUN
    content = json.loads(file.read_text()) if file.exists() else PLAIN
    return {**content, "threads": content["threads"] or stage_cores()}


def stage_cores() -> int:
    """Return the cores for one stage: those of this process, shared by the stages that run side by side."""
    return max(1, len(os.sched_getaffinity(0)) // n_stages())


def n_stages() -> int:
    """Return how many stages run side by side, one unless the flow says more."""
    return max(1, int(os.environ.get(STAGES) or 1))


def cpu_dtype(dtype: str | None, stored: Any) -> Any:
    """Return the torch.dtype of a model on a CPU: the one that is named, else bfloat16 if the CPU multiplies it.

    Where it does not, bfloat16 is emulated, and several times slower than float32. stored: that of the weights; those
    in float32 stay so.
    """
    import torch

    if dtype is not None:
        return getattr(torch, dtype)
    has_units = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if stored == torch.bfloat16 and has_units else torch.float32


def n_rows(model: Any, length: int, most: int) -> int:
    """Return how many rows of `length` tokens the memory of the model's device holds side by side, at most `most`.

    It follows from all memory there is, not from what is free: the same machine always computes the same batches.
    Raises UserError where not even one row fits.
    """
    row = row_bytes(model, length)
    room = SHARE * (device_memory(model.device) - sum(weight.nbytes for weight in model.parameters()))
    if room < row:
        raise UserError(
            f"the model's keys and values take {row / 2**30:.2f} GiB for {length} tokens, and there are"
            f" {max(0, room) / 2**30:.2f} GiB for them on this machine; lower max_new_tokens, or take a smaller model"
        )
    return min(most, int(room // row))


def row_bytes(model: Any, length: int) -> int:
    """Return the bytes of the keys and values of one row of `length` tokens."""
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * length * model.dtype.itemsize)


def device_memory(device: Any) -> float:
    """Return the bytes of a GPU, or this stage's part of this machine's."""
    import torch

    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return host_memory() / n_stages()


def host_memory() -> float:
    """Return the bytes of memory of this machine, or the least limit of the control groups of this process."""
    limits = [float(text) for file, text in group_limits() if text != "max"]
    return min([float(psutil.virtual_memory().total), *limits])


def release_memory() -> None:
    """Give back to the system what glibc keeps of freed memory for later; nothing with another C library.

    Rows of every training step have another length, so what is free lies in pieces between what is not, and is not
    used again: with SmolLM2 that came to 3 of 8 GiB.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def kept_memory() -> Iterator[None]:
    """A block in which glibc keeps what is freed for what is allocated next; nothing with another C library.

    By default it has the kernel map every block of more than 32 MiB anew, page by page. Writing takes such blocks in
    every step: attention of 256 rows of 400 tokens took three times as long. They go back to the system at the end.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)
    set_option(M_MMAP_MAX, 0)
    set_option(M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        set_option(M_MMAP_MAX, 65536)  # glibc's default
        set_option(M_MMAP_THRESHOLD, 2**25)  # what it would set by itself, once such blocks were freed
        set_option(M_TRIM_THRESHOLD, 2**26)
        release_memory()


def host_free(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the bytes that this machine has free, or that a control group (version 2) allows where that is less.

    groups, root: see group_limits. What a group has left includes its reclaimable cache.
    """
    free = [float(psutil.virtual_memory().available)]
    for folder, text in group_limits(groups, root):
        if text != "max":
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            used = int((folder / "memory.current").read_text())
            free.append(float(int(text) - used + int(stat["inactive_file"])))
    return min(free)


def group_limits(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[tuple[Path, str]]:
    """Return (folder, limit) of this process's control group and those above it that have one; "max" is none.

    groups: has a line "0::PATH". In a container the path may be the host's, which is not visible: then the limit is in
    the root.
    """
    lines = groups.read_text().splitlines() if groups.exists() else []
    path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::")), "")
    files = [(folder, folder / "memory.max") for folder in (root / path, *(root / path).parents)]
    return [(folder, file.read_text().strip()) for folder, file in files if file.exists()]
