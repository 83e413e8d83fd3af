"""Completions from a model: batched sampling of one prompt, each batch with a seed of its own."""

import hashlib
from dataclasses import dataclass
from typing import Any

from dartune.checkpoint import prompt_ids


@dataclass(frozen=True)
class Completion:
    """What the model wrote after the prompt. finish: "stop" at its end-of-turn token, "length" where it was cut."""

    text: str
    n_tokens: int
    finish: str


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: at a temperature, out of the smallest set that holds top_p of the probability."""

    temperature: float
    top_p: float
    max_new_tokens: int


def start_seed(*parts: str | int) -> int:
    """A seed for one batch: stages, tasks and models never share one, whatever seeds params.yaml gives them."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "little")


def complete(model: Any, tokenizer: Any, prompt: str, n: int, *, seed: int, sampling: Sampling) -> list[Completion]:
    """n completions of one prompt. The same seed and n give the same completions on the same machine."""
    import torch

    torch.set_num_threads(1)  # stages run side by side, and one thread adds up in one order only
    torch.manual_seed(seed)
    ids = torch.tensor([prompt_ids(tokenizer, prompt)] * n, device=model.device)
    with torch.inference_mode():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,  # transformers' default of 50 would cut the distribution a second time
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
    ends = ends_of_turn(model)
    return [completion(tokenizer, row, ends) for row in out[:, ids.shape[1] :].tolist()]


def completion(tokenizer: Any, ids: list[int], ends: set[int]) -> Completion:
    stop = next((i for i, token in enumerate(ids) if token in ends), None)
    text = tokenizer.decode(ids[:stop], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Completion(text, len(ids) if stop is None else stop + 1, "length" if stop is None else "stop")


def ends_of_turn(model: Any) -> set[int]:
    """Token ids that end a turn; chat models have more than one."""
    ends = model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}
