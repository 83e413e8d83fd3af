"""LoRA-DPO on a GPU: tokens a second, share of the peak, memory; ours beside TRL with its defaults and set with care.

    python benchmarks/gpu_train.py --shape 1b --steps 12 --batch 8

Needs torch, transformers, trl, peft and datasets, this project's package training on the path, and no network: weights
are random in the shape of Llama-3.2-1B or Llama-3.1-8B, texts are random words of a tokenizer made here. Each pair has
a prompt of its own, a quarter of --length, and two answers of an eighth to the whole of the rest, uniformly. Each arm
is a process of its own and trains the same pairs twice; the second epoch is measured. bf16 on a GPU; float32 on a CPU,
to see that it runs.

defaults  TRL's defaults, as RayZhhh/dpo-aad's train_cuda/train_dpo.py has them: a ready PeftModel, activation
          checkpointing, the reference in each step (through a frozen copy of the adapter), random order
careful   TRL as its documentation lets a careful user set it; careful_trl.py says how
ours      texts packed without padding (packing), the common prompt of a pair once; otherwise as careful

None writes checkpoints: the defaults would write one every 500 steps, ours so that
they take an eleventh of the time at most. tokens/s counts both sides of each pair, prompts twice, no padding;
"5 epochs" is tokens/s for five epochs with one pass of the reference. MFU is what the policy's tokens need, over the
device's dense bf16 peak:

    forward   2 (N + A) t + 2 H a + 4 L d t^2     N weights of the linear layers, A of the adapters, H of the head,
    backward  2 N t + 4 A t + 2 H a + 8 L d t^2   L layers, d heads times their width, t tokens of a text, a of its
                                                  answer

for each text: no gradients of frozen weights, the head on answers alone, attention as 12 L d t a token in all (without
the factor 1/2 for what a causal kernel may skip). HFU is what is computed: padded texts as long as the batch's
longest, the layers' forward again under checkpointing, the head's logits again in the backward, and the reference of
the defaults, a forward; not the tokens, under 3 %, that fill packed rows up.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # not installed where it runs

import careful_trl

from dartune.training.patches import patch_model, skip_reference_hash

LLAMA = {"vocab_size": 128256, "num_attention_heads": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5}
LLAMA |= {"max_position_embeddings": 131072}
SHAPES: dict[str, dict[str, Any]] = {
    "1b": LLAMA
    | {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64}
    | {"tie_word_embeddings": True, "factor": 32.0},
    "8b": LLAMA
    | {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "head_dim": 128}
    | {"tie_word_embeddings": False, "factor": 8.0},
    "tiny": LLAMA
    | {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "head_dim": 16, "vocab_size": 2000}
    | {"tie_word_embeddings": True, "factor": 32.0},
}
LORA = {"r": 64, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear"}
DPO = {"beta": 0.4, "learning_rate": 5e-6, "lr_scheduler_type": "cosine", "warmup_steps": 0.05, "max_grad_norm": 1.0}
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16; the H100 is the SXM one
START = ("<pad>", "<|user|>", "<|assistant|>", "<|end|>")
CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
N_EPOCHS = 2
ARMS = ("defaults", "careful", "ours")
WORKERS = ("dataloader_num_workers", "dataloader_persistent_workers")
LIBRARIES = ("torch", "transformers", "trl", "peft", "liger-kernel", "flash-attn")
REPORTED: tuple[str, ...] = (
    "activation_checkpointing",
    "gradient_checkpointing",
    "precompute_ref_log_probs",
    "train_sampling_strategy",
)
REPORTED += ("use_liger_kernel", "tf32", "bf16", "dataloader_num_workers", "logging_steps", "disable_dropout")


def new_tokenizer(n_words: int) -> Any:
    """One token a word, w0 to the last."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = [*START, *(f"w{i}" for i in range(n_words - len(START)))]
    plain = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=START[0]))
    plain.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token=START[0], eos_token=START[-1])
    tokenizer.chat_template, tokenizer.padding_side = CHAT, "left"
    return tokenizer


def new_rows(n: int, length: int, n_words: int, seed: int) -> list[dict[str, Any]]:
    """Pairs as chats, with the tokens of the longer text, as a trainer groups by it."""
    rng = random.Random(seed)
    n_prompt = length // 4

    def message(role: str, n_tokens: int) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(f"w{rng.randrange(n_words - len(START))}" for _ in range(n_tokens))}]

    rows = []
    for _ in range(n):
        longest = length - n_prompt
        chosen, rejected = (rng.randint(longest // 8, longest) for _ in range(2))  # each with its <|end|>
        answers = {"chosen": message("assistant", chosen - 1), "rejected": message("assistant", rejected - 1)}
        rows.append({"prompt": message("user", n_prompt - 3), **answers, "length": n_prompt + max(chosen, rejected)})
    return rows


def new_model(shape: dict[str, Any], attention: str, device: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    values = dict(shape)
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": values.pop("factor")}
    rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    config = LlamaConfig(
        **values, rope_parameters=rope, use_cache=False, pad_token_id=0, bos_token_id=None, eos_token_id=3
    )
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)


def new_arguments(arm: str, options: argparse.Namespace, folder: str) -> Any:
    """DPOConfig of an arm."""
    from trl import DPOConfig

    on_gpu = options.device == "cuda"
    shared = DPO | {
        "output_dir": folder,
        "num_train_epochs": N_EPOCHS,
        "per_device_train_batch_size": options.batch,
        "gradient_accumulation_steps": options.accumulation,
        "max_length": options.length,
        "bf16": on_gpu,
        "use_cpu": not on_gpu,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
    }
    if arm == "defaults":
        return DPOConfig(**shared)
    chosen = careful_trl.settings(on_gpu, keep_activations=options.checkpointing == "off")
    if arm != "careful":
        chosen = {name: value for name, value in chosen.items() if name not in ("use_liger_kernel", *WORKERS)}
        chosen |= {"logging_steps": 5, "disable_dropout": options.dropout == "off"}
    return DPOConfig(**shared | chosen)


def new_trainer(arm: str, options: argparse.Namespace, folder: str) -> Any:
    """A trainer that notes each batch of its steps and the seconds of its reference's pass."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from trl import DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    class Trainer(DPOTrainer):  # type: ignore[misc]
        reference_s = 0.0

        def _precompute_ref_logps(self, *args: Any) -> Any:
            start = time.perf_counter()
            rows = super()._precompute_ref_logps(*args)
            self.reference_s += time.perf_counter() - start
            return rows

        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            ids, answers = inputs["input_ids"], inputs["completion_mask"]
            self.batches.append(((ids != 0).sum(1), answers.sum(1), ids.shape[1]))  # on the GPU: nobody waits for it
            return super().training_step(model, inputs, *args, **kwargs)

    Trainer.batches = []
    shape, on_gpu = SHAPES[options.shape], options.device == "cuda"
    n_words = min(32000, shape["vocab_size"])
    rows = new_rows(options.steps * options.batch * options.accumulation, options.length, n_words, seed=0)
    if arm != "defaults":
        rows.sort(key=lambda row: row["length"], reverse=True)
    attention = careful_trl.attention(on_gpu, options.attention) if arm == "careful" else options.attention
    model, lora = new_model(shape, attention, options.device), LoraConfig(task_type="CAUSAL_LM", **LORA)
    if arm == "ours":
        skip_reference_hash()
        patch_model(model)
    collate = DataCollatorForPreference(pad_token_id=0, max_length=options.length)
    needs_no_mask = attention == "sdpa" and arm == "careful"
    return Trainer(
        model=get_peft_model(model, lora) if arm == "defaults" else model,
        args=new_arguments(arm, options, folder),
        data_collator=careful_trl.WithoutMask(collate) if needs_no_mask else collate,
        train_dataset=Dataset.from_list(rows),
        processing_class=new_tokenizer(n_words),
        peft_config=None if arm == "defaults" else lora,
    )


def patched_steps(trainer: Any, arm: str, on_gpu: bool) -> AbstractContextManager[None]:
    """A block in which the trainer trains as its arm says."""
    return nullcontext() if arm == "defaults" else careful_trl.uncast(trainer.model, on_gpu)


def sizes(model: Any, shape: dict[str, Any]) -> dict[str, int]:
    """N, A, H, L and d of the docstring; N and A of the layers that every token passes."""
    weights = {name: weight.numel() for name, weight in model.named_parameters() if weight.dim() == 2}
    a = sum(n for name, n in weights.items() if "lora_" in name and ".ref." not in name)
    n = sum(n for name, n in weights.items() if "lora_" not in name and "embed" not in name and "lm_head" not in name)
    h = shape["vocab_size"] * shape["hidden_size"]
    d = shape["num_attention_heads"] * shape["head_dim"]
    return {"N": n, "A": a, "H": h, "L": shape["num_hidden_layers"], "d": d}


def forward(size: dict[str, int], n_tokens: int, n_answer: int) -> float:
    """FLOPs of one text."""
    weights = (size["N"] + size["A"]) * n_tokens + size["H"] * n_answer
    return 2.0 * weights + 4.0 * size["L"] * size["d"] * n_tokens**2


def backward(size: dict[str, int], n_tokens: int, n_answer: int) -> float:
    weights = 2.0 * (size["N"] * n_tokens + size["H"] * n_answer) + 4.0 * size["A"] * n_tokens
    return weights + 8.0 * size["L"] * size["d"] * n_tokens**2


def flops(size: dict[str, int], texts: list[tuple[int, int, int]], arm: str, recomputes: bool) -> tuple[float, float]:
    """(needed by the policy, computed), as the docstring has them. texts: (tokens, of the answer, computed) of each."""
    needed = sum(forward(size, t, a) + backward(size, t, a) for t, a, _ in texts)
    computed = 0.0
    for _, a, width in texts:
        again = 2.0 * size["H"] * a + (forward(size, width, 0) if recomputes else 0.0)
        reference = forward(size, width, a) if arm == "defaults" else 0.0
        computed += forward(size, width, a) + backward(size, width, a) + again + reference
    return needed, computed


def measure(arm: str, options: argparse.Namespace, folder: str) -> dict[str, Any]:
    import torch
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            wait(options.device)
            ends.append(time.perf_counter())

    start = time.perf_counter()
    trainer = new_trainer(arm, options, folder)
    wait(options.device)
    built, reference = time.perf_counter(), trainer.reference_s
    trainer.add_callback(Clock())
    with patched_steps(trainer, arm, options.device == "cuda"):
        loss = trainer.train().training_loss
    seconds, is_packed = ends[-1] - ends[-2], arm == "ours"
    epoch = [
        (n, n_answer, n if is_packed else width)
        for ns, answers, width in trainer.batches[len(trainer.batches) // N_EPOCHS :]
        for n, n_answer in zip(ns.tolist(), answers.tolist(), strict=True)
    ]
    n_tokens, n_padded = sum(text[0] for text in epoch), sum(text[2] for text in epoch)
    recomputes = any(getattr(trainer.args, f"{name}_checkpointing", False) for name in ("activation", "gradient"))
    needed, computed = flops(sizes(trainer.model, SHAPES[options.shape]), epoch, arm, recomputes)
    return {
        "seconds": seconds,
        "tokens/s": n_tokens / seconds,
        "5 epochs": 5 * n_tokens / (5 * seconds + reference),
        "ref s": reference,
        "set-up s": built - start - reference,
        "MFU": needed / seconds / options.peak if options.peak else None,
        "HFU": computed / seconds / options.peak if options.peak else None,
        "padding": 1 - n_tokens / n_padded,
        "GiB": peak_gib(options.device),
        "loss": loss,
        "in force": in_force(trainer),
        "versions": {name: versions_or_none(name) for name in LIBRARIES},
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
    }


def in_force(trainer: Any) -> dict[str, Any]:
    """What the trainer really has of the settings that differ between the arms."""
    named = {name: getattr(trainer.args, name, None) for name in REPORTED}
    config = trainer.model.config
    named |= {"attention": config._attn_implementation, "collator": type(trainer.data_collator).__name__}
    return named | {"non_blocking": trainer.args.accelerator_config.non_blocking, "optim": str(trainer.args.optim)}


def versions_or_none(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def peak_gib(device: str) -> float:
    """Allocated at most on the GPU since the process began; on a CPU the most that the process held."""
    import resource

    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def child(arm: str, options: argparse.Namespace, queue: Any) -> None:
    import torch

    folder = tempfile.mkdtemp()
    try:
        queue.put(measure(arm, options, folder))
    except torch.OutOfMemoryError as error:
        queue.put({"error": str(error).splitlines()[0]})
    finally:
        shutil.rmtree(folder)


def run(arm: str, options: argparse.Namespace) -> dict[str, Any]:
    """The measurements of one arm in a process of its own, or its error."""
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(arm, options, queue))
    process.start()
    while process.is_alive() and queue.empty():
        time.sleep(0.2)
    result = {"error": f"ended with status {process.exitcode}"} if queue.empty() else queue.get()
    process.join()
    return result


def table(results: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    title = f"{options.shape}, {options.attention}, {options.batch} x {options.accumulation} pairs a step"
    print(f"\n| {title} | tokens/s | 5 epochs | MFU | HFU | GiB | padding | ref s |\n" + "|---" * 8 + "|")
    for arm, result in results.items():
        if "error" in result:
            print(f"| {arm} | {result['error']} |" + " |" * 6)
            continue
        speeds = [f"{result[name]:,.0f}" for name in ("tokens/s", "5 epochs")]
        shares = [f"{result[name]:.1%}" if result[name] is not None else "" for name in ("MFU", "HFU")]
        cells = [*speeds, *shares, f"{result['GiB']:.1f}"]
        print(f"| {arm} | {' | '.join(cells)} | {result['padding']:.1%} | {result['ref s']:.1f} |")
    for arm, result in results.items():
        if arm != "ours" and all("error" not in run for run in (result, results.get("ours", {"error": ""}))):
            *speeds, memory = (
                f"{results['ours'][name] / result[name]:.2f}" for name in ("tokens/s", "5 epochs", "GiB")
            )
            print(f"| ours / {arm} | {' | '.join(speeds)} | | | {memory} | | |")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--steps", type=int, default=24, help="an epoch")
    parser.add_argument("--batch", type=int, default=8, help="pairs of a forward pass")
    parser.add_argument("--accumulation", type=int, default=1, help="forward passes of a step")
    parser.add_argument("--length", type=int, default=2048, help="tokens of the longest text")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--attention", default="sdpa", help="or eager, flash_attention_2, ...")
    parser.add_argument("--checkpointing", choices=("on", "off"), default="off", help="of activations; not of defaults")
    parser.add_argument("--dropout", choices=("on", "off"), default="off", help="of adapters; ours alone: TRL's is off")
    parser.add_argument("--peak", type=float, help="FLOP/s; default: by the device's name")
    return parser.parse_args()


def main() -> None:
    import torch

    options = parse()
    os.environ["TQDM_DISABLE"] = "1"  # the children's
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    options.peak = options.peak or next((peak for key, peak in PEAKS.items() if key in name), None)
    results = {}
    for arm in options.arms:
        results[arm] = run(arm, options)
        print(json.dumps({"arm": arm, **vars(options), **results[arm]}), flush=True)
    table(results, options)


if __name__ == "__main__":
    main()
