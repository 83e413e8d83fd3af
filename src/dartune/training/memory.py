"""Memory of a training: weights that cannot fit are refused before they are opened; the rest is measured on one step.

The step is forward and backward of the longest batch: on a GPU in this process, on a CPU in a fork of it, which is
killed if it takes more than is free. Where its activations do not fit they are computed again in the backward pass
(activation checkpointing), which gives the same model at three quarters of the speed.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import psutil

from dartune.errors import UserError
from dartune.models.checkpoint import number_format, pretrained_arguments, quiet
from dartune.models.host import host_free, release_memory
from dartune.training.distributed import SHARDED, Launch
from dartune.training.trainers import TrainingInputs

# Bytes of a linear layer's weight: 8 bits (arXiv 2208.07339), or 4 and 0.127 for their constants (arXiv 2305.14314).
QUANTISED = {"8bit": 1.0, "4bit": 4.127 / 8}
LIBRARIES = 2**27  # bytes that they load and keep in their first steps on a CPU, measured by benchmarks/memory.py


def n_parameters(base: Path) -> tuple[int, int]:
    """Return (all, of linear layers apart from the head), counted on the meta device, without memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    quiet()
    config = AutoConfig.from_pretrained(**pretrained_arguments(base))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    linear = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear) and layer is not head]
    return model.num_parameters(), sum(layer.weight.numel() for layer in linear)


def weight_bytes(inputs: TrainingInputs, on_gpu: bool) -> float:
    """Return the bytes of the weights that one process opens, and of the copy that some online trainings keep.

    They are float32 where all are trained, else of the base model's number format or of fewer bits. Of sharded
    strategies the local shard.
    """
    n_all, n_linear = n_parameters(inputs.base)
    lora, load_in, launch = (inputs.settings[name] for name in ("lora", "load_in", "launch"))
    size = 4 if lora is None else 2 if on_gpu else number_format(inputs.base).itemsize
    n_bytes = n_all * size + n_linear * (QUANTISED[load_in] - size if load_in else 0)
    n_copies = 2 if inputs.is_online and inputs.options["beta"] > 0 and lora is None else 1
    n_shards = launch["n_processes"] if launch and launch["kind"] in SHARDED else 1
    return n_copies * n_bytes / n_shards


def refuse_too_large(inputs: TrainingInputs) -> None:
    """Raise UserError where the weights take more than is free. Opens no weights."""
    import torch

    on_gpu = torch.cuda.is_available()
    n_bytes, free = weight_bytes(inputs, on_gpu), free_bytes(inputs.settings["launch"])
    if n_bytes <= free:
        return
    advice = "take"
    if inputs.settings["lora"] is None:
        advice = "set train.lora, take"
    elif on_gpu and inputs.settings["load_in"] is None:
        advice = "set train.load_in, take"
    raise UserError(
        f"train: the weights of {inputs.base} for {inputs.task} take {gib(n_bytes)} GiB of memory, {gib(free)} GiB are"
        f" free; {advice} a smaller model or a bigger machine"
    )


def fit_activations(trainer: Any, inputs: TrainingInputs) -> None:
    """Switch activation checkpointing on where the activations of the longest batch do not fit.

    Sharded strategies always do on a GPU. Raises UserError where the batch does not fit even then. Every process of a
    training must call it.
    """
    from accelerate.utils import gather_object

    launch = inputs.settings["launch"]
    on_gpu = trainer.args.device.type == "cuda"
    if launch and launch["kind"] in SHARDED:
        if on_gpu:
            enable_checkpointing(trainer)
        return
    trained = sum(weight.nbytes for weight in trainer.model.parameters() if weight.requires_grad)
    to_come = (3 if launch else 2) * trained + (0 if on_gpu else LIBRARIES)  # moments; buckets of gradients to send
    release_memory()  # of the passes that computed the reference's log-probabilities: 2.8 GiB of the 0.5B, 24 pairs
    rows, free = longest_batch(trainer, inputs), free_bytes(launch)
    for activations in ("kept", "computed again"):
        if activations == "computed again":
            enable_checkpointing(trainer)
        n_bytes = step_bytes(trainer, rows, free - to_come)
        if None not in gather_object([n_bytes]):  # processes may have GPUs of unequal memory, and all must do the same
            most = gib((n_bytes or 0) + to_come)
            needs = f"needs {most} GiB of memory beside its weights, with activations {activations}"
            print(f"train {inputs.task}: {needs}; {gib(free)} GiB are free", file=sys.stderr, flush=True)
            return
    batch, length = "per_device_train_batch_size and raise gradient_accumulation_steps", "max_length"
    if inputs.is_online:
        batch, length = "num_generations", "max_new_tokens"
    lora = "" if inputs.settings["lora"] else "set train.lora, or "
    raise UserError(
        f"train: a step of {inputs.task} does not fit into the {gib(free)} GiB of memory that are free, even with its"
        f" activations computed again; lower trainers.{inputs.settings['method']}.{batch}, or lower train.{length}, or"
        f" {lora}take a smaller model or a bigger machine"
    )


def enable_checkpointing(trainer: Any) -> None:
    """Make a trainer that is made already compute its activations again in the backward pass."""
    trainer.args.activation_checkpointing = trainer.args.gradient_checkpointing = True
    if hasattr(trainer.model, "peft_config"):
        trainer.model.enable_input_require_grads()
    trainer.model.activation_checkpointing_enable()


def longest_batch(trainer: Any, inputs: TrainingInputs) -> dict[str, Any]:
    """Return input_ids, attention_mask and labels, each (texts, tokens), of the batch that takes the most memory."""
    import torch

    if inputs.is_online:
        n_prompt, n = max(row["prompt_tokens"] for row in inputs.rows), inputs.options["num_generations"]
        ids = torch.ones(n, n_prompt + inputs.settings["max_new_tokens"], dtype=torch.long)
        ids[:, n_prompt:] = torch.arange(n)[:, None] % trainer.model.config.vocab_size  # answers differ at once
        is_answer = torch.arange(ids.shape[1]) >= n_prompt
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.where(is_answer, -100)}
    n_rows = min(inputs.options["per_device_train_batch_size"], len(trainer.train_dataset))
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(n_rows)])  # rows are sorted, longest first
    if "labels" not in batch:
        batch["labels"] = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    return {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}


def step_bytes(trainer: Any, batch: dict[str, Any], room: float) -> float | None:
    """Return the bytes that a forward and backward pass takes at most, gradients included; None for more than `room`.

    The trainer, its model and torch's generators stay as they are.
    """
    model = trainer.model

    def step() -> None:
        inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
        with trainer.accelerator.autocast():
            output = model(**inputs, use_cache=False, fused_lm_head=True)
        output.log_probs.sum().backward()

    was_training = model.training
    model.train()
    n_bytes = in_this_process(step) if model.device.type == "cuda" else in_fork(step, room)
    model.zero_grad()
    model.train(was_training)
    return n_bytes if n_bytes is None or n_bytes <= room else None


def in_this_process(step: Callable[[], None]) -> float | None:
    """Return the most that the step allocates of the GPU at once, in bytes; None where there is not enough."""
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
    """Return by how many bytes a fork of this process grows in the step; None where it was killed for more than `room`.

    It is killed as soon as it holds more, before the kernel would kill a process of this control group. Blocks that are
    allocated and not written to take no memory, so no limit of the kernel's would do.
    """
    import torch

    before, growth = private_bytes(), RawValue("d")  # which the fork shares
    child = os.fork()
    if not child:
        torch.set_num_threads(1)  # a fork does not have the other threads, and would wait for them
        try:
            step()
        except BaseException as error:  # another error is the real step's to raise
            os._exit(int(isinstance(error, MemoryError) or "alloc" in str(error)))
        # A fork does not have its libraries' pages until it uses them.
        peak = 1024 * getrusage(RUSAGE_SELF).ru_maxrss - psutil.Process().memory_info().shared
        growth.value = max(0, peak - before)
        os._exit(0)
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if private_bytes(child) - before > room:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    return None if os.waitpid(child, 0)[1] else float(growth.value)


def private_bytes(process: int | None = None) -> int:
    """Return what a process, by default this one, holds apart from pages of files; 0 once it has ended."""
    usage = psutil.Process(process).memory_info()
    return int(usage.rss - usage.shared)


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
