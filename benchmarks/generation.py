"""Tokens a second of the local back end against transformers' own generate, same model, prompts and settings, one run.

`make bench-generation`. One thread, in turn, several rounds; tokens counted up to the end of each answer. The plain way
takes the prompts in the order given, in batches of a fixed size, padded on the left, best of several sizes.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from dartune.base_model.rewriting import Rewriting
from dartune.models.backend import Decoding
from dartune.models.transformers_backend import TransformersBackend, ends_of_turn
from dartune.tasks.task import Task

BASE = Path("models/embedded")
TASK = "tsp_construct"
N_PROMPTS, N_ROUNDS = 256, 3
SIZES = (64, 128)
DECODING = Decoding(temperature=1.0, top_p=0.95, max_new_tokens=256)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    local = TransformersBackend(BASE)
    rewriting = Rewriting(TASK, 1)
    workloads = {
        "one prompt": [Task(TASK).prompt] * N_PROMPTS,
        "prompts of searches": [rewriting.example()[0] for _ in range(N_PROMPTS)],
    }
    print(
        f"| {N_PROMPTS} completions of {TASK} | ours | "
        + " | ".join(f"generate, {size}" for size in SIZES)
        + " | ratio |"
    )
    print("|" + "---|" * (len(SIZES) + 3))
    for name, prompts in workloads.items():
        ways: dict[str, Callable[[int], int]] = {"ours": partial(ours, local, prompts)}
        ways |= {f"{n}": partial(plain, local, prompts, size=n) for n in SIZES}
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for seed in range(N_ROUNDS):
            for way, write in ways.items():
                rates[way].append(rate(write, seed))
        best = max((way for way in ways if way != "ours"), key=lambda way: statistics.median(rates[way]))
        ratios = sorted(mine / theirs for mine, theirs in zip(rates["ours"], rates[best], strict=True))
        shown = " | ".join(f"{statistics.median(way):.0f} ({min(way):.0f}-{max(way):.0f})" for way in rates.values())
        print(f"| {name} | {shown} | {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) |", flush=True)


def rate(write: Callable[[int], int], seed: int) -> float:
    """Return the tokens per second of one way to write, which returns how many it wrote."""
    start = time.perf_counter()
    return write(seed) / (time.perf_counter() - start)


def ours(local: TransformersBackend, prompts: list[str], seed: int) -> int:
    """Return the tokens that our back end writes."""
    return sum(completion.n_tokens for completion in local.complete(prompts, seed=seed, decoding=DECODING))


@torch.inference_mode()
def plain(local: TransformersBackend, prompts: list[str], seed: int, size: int) -> int:
    """Return the tokens that transformers' generate writes, in batches of `size` prompts."""
    model, tokenizer = local.model, local.tokenizer
    torch.manual_seed(seed)
    n_tokens, ends = 0, torch.tensor(ends_of_turn(model))
    for first in range(0, len(prompts), size):
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts[first : first + size]]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_dict=True, return_tensors="pt", padding=True
        )
        written = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            do_sample=True,
            temperature=DECODING.temperature,
            top_p=DECODING.top_p,
            top_k=0,
            max_new_tokens=DECODING.max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )[:, inputs["input_ids"].shape[1] :]
        is_end = torch.isin(written, ends)
        n_tokens += int((is_end.cumsum(-1) - is_end.long() == 0).sum())
    return n_tokens


if __name__ == "__main__":
    main()
