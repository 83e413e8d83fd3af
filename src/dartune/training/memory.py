"""Memory that a training needs, estimated before it starts, and what to change where there is less.

Sources: transformers 5.23 and TRL 1.16 as installed; benchmarks/memory.py compares the estimates with what trainings
took here. They leave out what a process holds before: Python, the libraries, and on a GPU CUDA's own gigabyte or less.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dartune.errors import UserError
from dartune.models.checkpoint import LoadIn, pretrained_arguments, quiet
from dartune.training.distributed import SHARDED, Launch
from dartune.training.packing import is_packable, n_filling
from dartune.training.patches import TILE
from dartune.training.probe import BATCH, LOGITS, ProbeConfig
from dartune.training.trainers import ONLINE, Lora, TrainingInputs

SMALL: Any = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear"}
# Bytes of a linear layer's weight: 8 bits (arXiv 2208.07339), or 4 and 0.127 for their constants (arXiv 2305.14314).
QUANTISED = {"8bit": 1.0, "4bit": 4.127 / 8}
KEPT = (0.9, 0.75, 0.5, 0.25)  # shares of the pairs that a lower max_length may leave
LIBRARIES = 2**27  # what they load and keep in their first steps, measured
HOLES = 0.8  # of the activations under an adapter, measured with glibc's malloc
CAST = 1.6  # times the activations in bf16: autocast keeps others beside; on a CPU 1.55, with an adapter 1.56
GIB = 2**30


@dataclass(frozen=True)
class Network:
    """Numbers of a model: parameters in all, in its linear layers (the head apart), trained; then widths and counts.

    width: of the residual stream. queries, keys: heads times their width. inner: of the feed-forward layers.
    is_packed: whether its layers read a batch without padding (packing.py).
    """

    n_all: int
    n_linear: int
    n_trained: int
    width: int
    queries: int
    keys: int
    inner: int
    n_layers: int
    n_words: int
    is_packed: bool


@dataclass(frozen=True)
class Plan:
    """All that decides what a training needs.

    n_rows: pairs, programs or answers a process reads in one step. length: tokens of the longest, prompt and answer.
    prompt: of what all rows begin with; own: of the rest of a row, of both sides of a pair, at most.
    n_written, written_length: the answers that are written side by side, and their tokens with the prompt's; 0 where
    none are. n_read: tokens of texts that the watch reads at once. has_reference: whether a second model stays in
    memory. is_checkpointed: whether the backward pass computes the activations again. n_processes: that share out what
    kind allows.
    """

    method: str
    network: Network
    lora: Lora | None
    load_in: LoadIn | None
    n_rows: int
    length: int
    prompt: int
    own: int
    n_written: int
    written_length: int
    n_read: int
    has_reference: bool
    on_gpu: bool
    is_checkpointed: bool
    kind: str | None
    n_processes: int


def network(base: Path, lora: Lora | None) -> Network:
    """Counted on the meta device, where parameters have shapes and no memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    quiet()
    config = AutoConfig.from_pretrained(**pretrained_arguments(base))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        head, is_packed = model.get_output_embeddings(), is_packable(model)
        linear = [each for each in model.modules() if isinstance(each, torch.nn.Linear) and each is not head]
        n_linear, n_all = sum(each.weight.numel() for each in linear), sum(each.numel() for each in model.parameters())
        if lora:
            from peft import LoraConfig, get_peft_model

            model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))
    text = config.get_text_config()
    heads, width = text.num_attention_heads, text.hidden_size
    head_width = getattr(text, "head_dim", None) or width // heads
    return Network(
        n_all=n_all,
        n_linear=n_linear,
        n_trained=sum(each.numel() for each in model.parameters() if each.requires_grad),
        width=width,
        queries=heads * head_width,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * head_width,
        inner=getattr(text, "intermediate_size", None) or 4 * width,
        n_layers=text.num_hidden_layers,
        n_words=text.vocab_size,
        is_packed=is_packed,
    )


def needed(plan: Plan) -> dict[str, float]:
    """Bytes of one process, by what they are for. Kinds that share out count the shares alone, not what they gather."""
    of_weights = plan.n_processes if plan.kind in SHARDED else 1
    of_states = plan.n_processes if plan.kind not in (None, "ddp") else 1
    buckets = 2 if plan.kind == "ddp" else 1  # gradients, copied there to be sent
    return {
        "weights": (weights(plan) + (trained(plan) if plan.lora else 0)) / of_weights,
        "reference": weights(plan) / of_weights if plan.has_reference else 0.0,
        "optimiser": 2 * trained(plan) / of_states,
        "gradients": buckets * trained(plan) / of_states,
        "activations": activations(plan),
        "head": head(plan),
        "writing": writing(plan),
        "libraries": LIBRARIES,
    }


def total(need: dict[str, float]) -> float:
    """Bytes at most: what is held throughout, and a step's or the writing's, whichever takes more.

    The gradients are there in full only when the activations are gone; the sum of both is what a step takes at most.
    """
    held = need["weights"] + need["reference"] + need["optimiser"] + need["libraries"]
    return held + max(need["gradients"] + need["activations"] + need["head"], need["writing"])


def weights(plan: Plan) -> float:
    """The base model: float32 where all its weights are trained and on a CPU, else bf16; or in fewer bits."""
    size = 2 if plan.on_gpu and plan.lora else 4
    if plan.load_in is None:
        return plan.network.n_all * size
    return (plan.network.n_all - plan.network.n_linear) * size + plan.network.n_linear * QUANTISED[plan.load_in]


def trained(plan: Plan) -> float:
    """What is trained, once: float32, which PEFT makes of an adapter; TRL makes it bf16 on a model in fewer bits.

    Gradients have the type of the parameter, and so have the two moments that torch.optim.AdamW makes like it.
    """
    return plan.network.n_trained * (2 if plan.load_in else 4)


def size(plan: Plan) -> int:
    """Bytes of a number that is computed: bf16 by autocast on a GPU."""
    return 2 if plan.on_gpu else 4


def n_sequences(plan: Plan) -> int:
    return 2 * plan.n_rows if plan.method == "dpo" else plan.n_rows  # chosen and rejected in one pass


def n_tokens(plan: Plan) -> int:
    """Tokens of a step at most: the prompt once, no padding and what fills a row up, or all texts as the longest."""
    if not plan.network.is_packed:
        return n_sequences(plan) * plan.length
    n = plan.prompt + plan.n_rows * plan.own
    return n + n_filling(n, "cuda" if plan.on_gpu else "cpu")


def activations(plan: Plan) -> float:
    """What autograd keeps of the forward pass, by torch.autograd.graph.saved_tensors_hooks on a Llama.

    Of each token in each layer: 6 times the width (the inputs of two norms, what they scale, what they give), 3 times
    the queries (queries, attention's result text by text and in one), 4 times the inner width (gate, its activation,
    up, their product), and one row of the mask, which a GPU does without; the keys and values that each text reads, the
    prompt's too. The backward pass needs as much again for one layer. Of checkpointed layers the inputs are kept, and
    one layer at a time is computed again. On a CPU the heap has holes after what an adapter adds in passing.
    """
    net, n, mask = plan.network, n_tokens(plan), 0 if plan.on_gpu else plan.length
    n_keys = n + n_sequences(plan) * plan.prompt
    layer = (n * (6 * net.width + 3 * net.queries + 4 * net.inner + mask) + n_keys * 2 * net.keys) * size(plan)
    if plan.is_checkpointed:
        return n * net.width * size(plan) * net.n_layers + 2 * layer
    return layer * (net.n_layers + 1) * (CAST if plan.on_gpu else 1 + HOLES if plan.lora else 1)


def head(plan: Plan) -> float:
    """The last layer, of whose logits TRL holds a tile at a time, with gradients of what goes in and of its weights.

    On a GPU a kernel works in the tile, on answers alone; elsewhere torch makes seven of its size more, of all places.
    """
    net, n = plan.network, n_tokens(plan) if plan.on_gpu else n_sequences(plan) * plan.length
    tile = min(n, TILE[0]) * min(net.n_words, TILE[1]) * (size(plan) if plan.on_gpu else 8 * 4)
    return tile + n * net.width * 4 + (0 if plan.lora else net.n_words * net.width * 4)


def writing(plan: Plan) -> float:
    """Keys and values of what is written while the model is trained, and logits with what drawing from them takes.

    Drawing: float32, sorted with their places (8 bytes), summed up. Reading: in the model's type, in float32 and as
    logarithms.
    """
    net = plan.network
    if not plan.n_written:
        return 0.0
    cache = plan.n_written * plan.written_length * 2 * net.keys * net.n_layers * size(plan)
    drawn = plan.n_written * net.n_words * (size(plan) + 24)
    read = plan.n_read * net.n_words * (size(plan) + 8)
    return cache + max(drawn, read)


def planned(
    material: TrainingInputs, method: str, options: dict[str, Any], watch: ProbeConfig, launch: Launch | None
) -> Plan:
    """The plan of a training that is about to start."""
    import torch

    from dartune.models.transformers_backend import N_SLOTS

    is_online, new = method in ONLINE, material.decoding["max_new_tokens"]
    prompt = max(row["prompt_tokens"] for row in material.rows)
    n_rows = options["num_generations"] if is_online else options["per_device_train_batch_size"]
    net = network(material.base, material.lora)
    watched = min(watch["n_samples"], N_SLOTS) if watch["n_times"] else 0
    return Plan(
        method=method,
        network=net,
        lora=material.lora,
        load_in=material.load_in,
        n_rows=n_rows,
        length=prompt + new if is_online else max(lengths(material)),
        prompt=shared(material),
        own=prompt - shared(material) + new if is_online else own(material, method, max(lengths(material))),
        n_written=max(n_rows if is_online else 0, watched),
        written_length=prompt + new,
        n_read=n_read(max(lengths(material)), net.n_words) if watched else 0,
        has_reference=is_online and options["beta"] > 0 and material.lora is None,
        on_gpu=torch.cuda.is_available(),
        is_checkpointed=torch.cuda.is_available(),
        kind=launch["kind"] if launch else None,
        n_processes=launch["n_processes"] if launch else 1,
    )


def n_read(length: int, n_words: int) -> int:
    """Tokens of texts of this length whose logits watch.py holds at once."""
    return length * min(BATCH, max(1, LOGITS // (length * n_words)))


def shared(material: TrainingInputs) -> int:
    """Tokens of the prompt that all rows have; 0 where they have different ones, of which the start may be the same."""
    is_one = len({str(row["prompt"]) for row in material.rows}) == 1
    return int(material.rows[0]["prompt_tokens"]) if is_one else 0


def own(material: TrainingInputs, method: str, length: int) -> int:
    """Tokens of a row at most that are not shared, of both sides where both are read; of rows of at most length."""
    sides = ("chosen_tokens", "rejected_tokens") if method == "dpo" else ("chosen_tokens",)
    known, common = [row for row in material.rows if longest(row) <= length], shared(material)
    return int(max(sum(row["prompt_tokens"] - common + row[side] for side in sides) for row in known))


def lengths(material: TrainingInputs) -> list[int]:
    """Tokens of each pair's longer side with the prompt, in ascending order."""
    return sorted(map(longest, material.rows))


def longest(row: dict[str, Any]) -> int:
    return int(row["prompt_tokens"] + max(row["chosen_tokens"], row["rejected_tokens"]))


def fitted(
    material: TrainingInputs, method: str, options: dict[str, Any], watch: ProbeConfig, launch: Launch | None
) -> bool:
    """Whether the training has to checkpoint its activations: on a GPU where keeping them takes more than is free.

    Says on stderr what the training needs; a UserError, with what would fit, where that is more than is free.
    """
    plan = planned(material, method, options, watch, launch)
    n_here = launch["n_processes"] // launch["n_machines"] if launch else 1
    free = gpu_free() if plan.on_gpu else host_free() / n_here
    plan = fastest(plan, free)
    need = needed(plan)
    parts = ", ".join(f"{name} {gib(value)}" for name, value in need.items() if value)
    line = f"about {gib(total(need))} GiB of memory ({parts}); {gib(free)} GiB are free"
    print(f"train {material.task}: needs {line}", file=sys.stderr, flush=True)
    if total(need) > free:
        raise UserError(f"train: a training of {material.task} needs {line}; {advice(plan, material, options, free)}")
    return plan.is_checkpointed


def fastest(plan: Plan, free: float) -> Plan:
    """Without checkpoints, which cost a quarter of the speed, where there is room for that. Processes that share out
    weights keep them: each would decide by what is free on its own GPU, and then wait for others that go another way.
    """
    kept = replace(plan, is_checkpointed=False)
    return kept if plan.kind not in SHARDED and total(needed(kept)) <= free else plan


def gib(n_bytes: float) -> str:
    return f"{n_bytes / GIB:.2f}"


def advice(plan: Plan, material: TrainingInputs, options: dict[str, Any], free: float) -> str:
    """The settings that fit, of those that change the result least."""
    for changed in easier(plan, material):
        if total(needed(changed)) <= free:
            return f"set {changes(plan, changed, material, options)} (about {gib(total(needed(changed)))} GiB)"
    return "no smaller batch, adapter or length would do: take a smaller model or a bigger machine"


def easier(plan: Plan, material: TrainingInputs) -> Iterator[Plan]:
    """Plans that need less: with smaller batches first, then with an adapter, with fewer bits, without long pairs."""
    known, least = lengths(material), 2 if plan.method in ONLINE else 1
    left = [] if plan.method in ONLINE else [known[max(0, int(share * len(known)) - 1)] for share in KEPT]
    small = replace(plan, lora=SMALL, network=network(material.base, SMALL), has_reference=False)
    for length in [plan.length, *(each for each in left if each < plan.length)]:
        answers = plan.own if plan.method in ONLINE else own(material, plan.method, length)
        for tuned in [plan] if plan.lora else [plan, small]:
            fewer: list[LoadIn | None] = ["8bit", "4bit"] if tuned.lora and plan.on_gpu and not plan.load_in else []
            for load_in in [plan.load_in, *fewer]:
                for n_rows in range(plan.n_rows, least - 1, -1):
                    if plan.n_rows % n_rows == 0:
                        yield replace(tuned, length=length, own=answers, load_in=load_in, n_rows=n_rows)


def changes(plan: Plan, changed: Plan, material: TrainingInputs, options: dict[str, Any]) -> str:
    """Keys and values of the settings that make the one plan the other."""
    words, own = [], f"trainers.{plan.method}"
    if changed.n_rows != plan.n_rows and plan.method in ONLINE:
        words.append(f"{own}.num_generations: {changed.n_rows}")
    elif changed.n_rows != plan.n_rows:
        n_steps = options["gradient_accumulation_steps"] * plan.n_rows // changed.n_rows
        words.append(f"{own}.per_device_train_batch_size: {changed.n_rows} and gradient_accumulation_steps: {n_steps}")
    if changed.lora != plan.lora:
        words.append(f"train.lora: {json.dumps(changed.lora)}")
    if changed.load_in != plan.load_in:
        words.append(f"train.load_in: {changed.load_in}")
    if changed.length != plan.length:
        n_left = sum(each <= changed.length for each in lengths(material))
        words.append(f"train.max_length: {changed.length}, which leaves {n_left} of {len(material.rows)} pairs")
    return ", ".join(words)


def gpu_free() -> float:
    """Bytes free on this process's GPU, without what torch keeps for later."""
    import torch

    torch.cuda.empty_cache()
    return float(torch.cuda.mem_get_info(int(os.environ.get("LOCAL_RANK", 0)))[0])


def host_free(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that this machine has free, or its control group allows where that is less.

    groups: lines "number:controllers:path"; version 2 of control groups has one, without controllers. In a container
    the path may be the host's, which is not there: then the limit stands in the root.
    """
    import psutil

    found = [float(psutil.virtual_memory().available)]
    for line in groups.read_text().splitlines() if groups.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            own = root / controllers / path.strip("/")
            found += [left for folder in (own, *own.parents) if (left := group_free(folder)) is not None]
    return min(found)


def group_free(folder: Path) -> float | None:
    """Bytes that a control group has left, with what its files in the cache hold; None where it has no limit."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        if (folder / limit).exists() and (text := (folder / limit).read_text().strip()) != "max":
            states = dict(each.split() for each in (folder / "memory.stat").read_text().splitlines())
            return float(int(text) - int((folder / used).read_text()) + int(states[cached]))
    return None
