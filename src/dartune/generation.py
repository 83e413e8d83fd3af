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
    """n completions of one prompt. The same seed and n give the same completions on the same machine.

    Not transformers' generate: that computes the prompt n times and carries finished rows along until the longest is
    done, which is half of the work here.
    """
    import torch
    from transformers import DynamicCache

    torch.set_num_threads(1)  # stages run side by side, and one thread adds up in one order only
    torch.manual_seed(seed)
    ends = torch.tensor(ends_of_turn(model), device=model.device)
    ids = torch.tensor([prompt_ids(tokenizer, prompt)], device=model.device)
    rows = torch.arange(n, device=model.device)  # those still being written
    written = torch.full((n, sampling.max_new_tokens), -1, device=model.device)
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        logits = model(ids, past_key_values=cache, logits_to_keep=1).logits[:, -1].expand(n, -1)
        cache.batch_repeat_interleave(n)
        for step in range(sampling.max_new_tokens):
            tokens = draw(logits, sampling)
            written[rows, step] = tokens
            going = ~torch.isin(tokens, ends)
            if not going.any():
                break
            if not going.all():
                rows, tokens = rows[going], tokens[going]
                cache.batch_select_indices(going.nonzero().squeeze(1))
            logits = model(tokens[:, None], past_key_values=cache).logits[:, -1]
    return [
        completion(tokenizer, [token for token in row if token >= 0], set(ends.tolist())) for row in written.tolist()
    ]


def draw(logits: Any, sampling: Sampling) -> Any:
    """One token a row: logits (n, vocabulary) to ids (n,)."""
    import torch
    from transformers import TopPLogitsWarper

    kept = TopPLogitsWarper(sampling.top_p)(None, logits.float() / sampling.temperature)
    return torch.multinomial(kept.softmax(dim=-1), 1).squeeze(1)


def completion(tokenizer: Any, ids: list[int], ends: set[int]) -> Completion:
    """The text up to the end of the turn; n_tokens counts the end."""
    is_whole = bool(ids) and ids[-1] in ends
    text = tokenizer.decode(ids[:-1] if is_whole else ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Completion(text, len(ids), "stop" if is_whole else "length")


def ends_of_turn(model: Any) -> list[int]:
    """Token ids that end a turn; chat models have more than one."""
    ends = model.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [ends]
