"""Memory of a training: weights that cannot fit are refused before they are opened; the rest is measured on one step.

The step is forward and backward of the longest batch: on a GPU in this process, on a CPU in a fork of it, which is
killed if it takes more than is free. Where its activations do not fit they are computed again in the backward pass
(activation checkpointing), which gives the same model at three quarters of the speed.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dartune.errors import UserError
from dartune.models.checkpoint import pretrained_arguments, quiet
from dartune.training.distributed import SHARDED, Launch, is_worker
from dartune.training.trainers import ONLINE, TrainingInputs

SMALL = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear"}
# Bytes of a linear layer's weight: 8 bits (arXiv 2208.07339), or 4 and 0.127 for their constants (arXiv 2305.14314).
QUANTISED = {"8bit": 1.0, "4bit": 4.127 / 8}
LIBRARIES = 2**27  # bytes that they load and keep in their first steps on a CPU, measured by benchmarks/memory.py


def n_parameters(inputs: TrainingInputs) -> tuple[int, int, int]:
    """Return (all, of linear layers apart from the head, trained), counted on the meta device, without memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    quiet()
    config = AutoConfig.from_pretrained(**pretrained_arguments(inputs.base))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        head, n_all = model.get_output_embeddings(), model.num_parameters()
        linear = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear) and layer is not head]
        n_linear = sum(layer.weight.numel() for layer in linear)
        if inputs.lora:
            from peft import LoraConfig, get_peft_model

            model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **inputs.lora))
    return n_all, n_linear, sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def state_bytes(inputs: TrainingInputs, has_reference: bool, launch: Launch | None, on_gpu: bool) -> dict[str, float]:
    """Return the bytes that one process holds throughout, by what they are for, of sharded strategies the local shard.

    Weights are float32 where all are trained or on a CPU, else bf16 or fewer bits; what is trained is float32, and bf16
    on a model of fewer bits. Gradients and AdamW's two moments have the type of what is trained.
    """
    n_all, n_linear, n_trained = n_parameters(inputs)
    size, trained = 2 if on_gpu and inputs.lora else 4, n_trained * (2 if inputs.load_in else 4)
    weights = float(n_all * size)
    if inputs.load_in:
        weights = (n_all - n_linear) * size + n_linear * QUANTISED[inputs.load_in]
    kind, n = (launch["kind"], launch["n_processes"]) if launch else (None, 1)
    of_weights, of_states = n if kind in SHARDED else 1, n if kind not in (None, "ddp") else 1
    return {
        "weights": (weights + (trained if inputs.lora else 0)) / of_weights,
        "reference": weights / of_weights if has_reference else 0.0,
        "gradients": trained * (2 if kind == "ddp" else 1) / of_states,  # ddp copies them into buckets to send them
        "optimiser": 2 * trained / of_states,
    }


def refuse_too_large(inputs: TrainingInputs, method: str, options: dict[str, Any], launch: Launch | None) -> None:
    """Raise UserError where weights, gradients and optimiser take more than is free. Opens no weights."""
    import torch

    on_gpu = torch.cuda.is_available()
    has_reference = method in ONLINE and options["beta"] > 0 and inputs.lora is None
    parts, free = state_bytes(inputs, has_reference, launch, on_gpu), free_bytes(launch)
    if sum(parts.values()) <= free:
        return
    shown = ", ".join(f"{name} {gib(value)}" for name, value in parts.items() if value)
    if inputs.lora is None:
        advice = f"set train.lora: {json.dumps(SMALL)}, take a smaller model"
    elif on_gpu and inputs.load_in != "4bit" and not (launch and launch["kind"] in SHARDED):
        advice = f"set train.load_in: {'4bit' if inputs.load_in else '8bit'}, take a smaller model"
    else:
        advice = "take a smaller model"
    raise UserError(
        f"train: a training of {inputs.task} needs {gib(sum(parts.values()))} GiB of memory before its first step"
        f" ({shown}); {gib(free)} GiB are free; {advice} or a bigger machine"
    )


def fit_activations(
    trainer: Any, inputs: TrainingInputs, method: str, options: dict[str, Any], launch: Launch | None
) -> None:
    """Switch activation checkpointing on where the activations of the longest batch do not fit.

    Sharded strategies always do on a GPU. Raises UserError where the batch does not fit even then.
    """
    if launch and launch["kind"] in SHARDED:
        if trainer.args.device.type == "cuda":
            enable_checkpointing(trainer)
        return
    trained = sum(weight.nbytes for weight in trainer.model.parameters() if weight.requires_grad)
    copies = 3 if launch and launch["kind"] == "ddp" else 2  # moments; buckets of gradients to send
    to_come = copies * trained + (0 if trainer.args.device.type == "cuda" else LIBRARIES)
    batch, free = longest_batch(trainer, inputs, method, options), free_bytes(launch)
    for is_again in (False, True):
        if is_again:
            enable_checkpointing(trainer)
        n_bytes = step_bytes(trainer, batch, free - to_come)
        if agree(n_bytes is not None and n_bytes + to_come <= free):
            how = "computed again" if is_again else "kept"
            needs = f"needs {gib((n_bytes or 0) + to_come)} GiB of memory beside its weights"
            print(
                f"train {inputs.task}: {needs}, with activations {how}; {gib(free)} GiB are free",
                file=sys.stderr,
                flush=True,
            )
            return
    knobs = "num_generations" if method in ONLINE else "per_device_train_batch_size"
    fewer = f"lower trainers.{method}.{knobs}" + ("" if method in ONLINE else " and raise gradient_accumulation_steps")
    shorter = "train.max_new_tokens" if method in ONLINE else "train.max_length"
    raise UserError(
        f"train: a step of {inputs.task} does not fit into the {gib(free)} GiB of memory that are free, even with its"
        f" activations computed again; {fewer}, or lower {shorter}, or take a smaller model or a bigger machine"
    )


def enable_checkpointing(trainer: Any) -> None:
    """Make a trainer that is made already compute its activations again in the backward pass."""
    trainer.args.activation_checkpointing = trainer.args.gradient_checkpointing = True
    if hasattr(trainer.model, "peft_config"):
        trainer.model.enable_input_require_grads()
    trainer.model.activation_checkpointing_enable()


def longest_batch(trainer: Any, inputs: TrainingInputs, method: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return input_ids, attention_mask and labels, each (texts, tokens), of the batch that takes the most memory."""
    import torch

    if method in ONLINE:
        n_prompt, n = max(row["prompt_tokens"] for row in inputs.rows), options["num_generations"]
        ids = torch.ones(n, n_prompt + inputs.decoding["max_new_tokens"], dtype=torch.long)
        ids[:, n_prompt:] = torch.arange(n)[:, None] % trainer.model.config.vocab_size  # answers differ at once
        is_answer = torch.arange(ids.shape[1]) >= n_prompt
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.where(is_answer, -100)}
    n_rows = min(options["per_device_train_batch_size"], len(trainer.train_dataset))
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(n_rows)])  # rows are sorted, longest first
    labels = batch.get("labels")
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100) if labels is None else labels
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


def step_bytes(trainer: Any, batch: dict[str, Any], room: float) -> float | None:
    """Return the bytes that a forward and backward pass takes at most, gradients included; None for more than `room`.

    The trainer, its model and torch's generators stay as they are.
    """
    import torch

    model = trainer.model
    there = {name: tensor.to(model.device) for name, tensor in batch.items()}

    def step() -> None:
        with trainer.accelerator.autocast():
            output = model(**there, use_cache=False, fused_lm_head=True)
        output.log_probs.sum().backward()

    was_training = model.training
    model.train()
    try:
        return on_gpu(step) if model.device.type == "cuda" else in_fork(step, room)
    finally:
        model.train(was_training)
        if model.device.type == "cuda":
            model.zero_grad()
            torch.cuda.empty_cache()


def on_gpu(step: Callable[[], None]) -> float | None:
    """Return the most that the step allocates at once, in bytes; None where there is not enough."""
    import torch

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        with torch.random.fork_rng(devices=[torch.cuda.current_device()]):
            step()
    except torch.OutOfMemoryError:
        return None
    return float(torch.cuda.max_memory_allocated() - before)


def in_fork(step: Callable[[], None], room: float) -> float | None:
    """Return by how many bytes a fork of this process grows in the step; None where that is more than `room`.

    The fork is killed as soon as it holds more, before the kernel would kill a process of this control group. Blocks
    that are allocated and not written to take no memory, so no limit of the kernel's would do.
    """
    if not Path("/proc/self/status").exists():  # not Linux
        return 0.0
    reader, writer = os.pipe()
    before = memory_status()["RssAnon"]
    child = os.fork()
    if not child:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak, VmHWM, starts anew
            step()
        except BaseException as error:  # another error is the real step's to raise
            os._exit(int(isinstance(error, MemoryError) or "alloc" in str(error)))
        after = memory_status()  # a fork does not have its libraries' pages until it uses them
        os.write(writer, str(after["VmHWM"] - after["RssFile"] - before).encode())
        os._exit(0)
    os.close(writer)
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if memory_status(child).get("RssAnon", 0) - before > room:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    failed = os.waitpid(child, 0)[1]
    with open(reader) as pipe:
        growth = max(0.0, float(pipe.read() or 0))
    return None if failed or growth > room else growth


def memory_status(process: int | str = "self") -> dict[str, int]:
    """Return the sizes in /proc/PROCESS/status in bytes; those of memory are missing once the process has ended."""
    lines = [line.split() for line in Path(f"/proc/{process}/status").read_text().splitlines()]
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if words[-1] == "kB"}


def agree(fits: bool) -> bool:
    """Return whether it fits in all processes of this training. All must call it."""
    if not is_worker():
        return fits
    from accelerate.utils import gather_object

    return all(gather_object([fits]))


def gib(n_bytes: float) -> str:
    """Return GiB with two decimals."""
    return f"{n_bytes / 2**30:.2f}"


def free_bytes(launch: Launch | None) -> float:
    """Return what one process of the training may still take, in bytes: of its GPU, or its part of this machine."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        return float(torch.cuda.mem_get_info(int(os.environ.get("LOCAL_RANK", 0)))[0])
    return host_free() / (launch["n_processes"] // launch["n_machines"] if launch else 1)


def host_free(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the bytes that this machine has free, or that a control group allows where that is less.

    groups: lines "number:controllers:path"; version 2 has one line without controllers. In a container the path may be
    the host's, which is not visible: then the limit is in the root.
    """
    import psutil

    limits = [float(psutil.virtual_memory().available)]
    for line in groups.read_text().splitlines() if groups.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            folder = root / controllers / path.strip("/")
            limits += [left for each in (folder, *folder.parents) if (left := group_free(each)) is not None]
    return min(limits)


def group_free(folder: Path) -> float | None:
    """Return the bytes that a control group has left, its reclaimable cache included; None where it has no limit."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        if (folder / limit).exists() and (text := (folder / limit).read_text().strip()) != "max":
            states = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            return float(int(text) - int((folder / used).read_text()) + int(states[cached]))
    return None
