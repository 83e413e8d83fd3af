"""Attention over a prefix that all rows share, such as the task's prompt: its keys and values are kept once.

One step of n rows over a common prompt reads the prompt's keys n times in torch's attention, which is nearly half of a
step of a small model in bfloat16 on a CPU. Here scores of the prefix are one product of matrices for all rows. The
softmax is over prefix and own tokens together. Scores are in float32, as in torch's attention: those of
Qwen2.5-Coder-1.5B reach 12,000, where neighbouring numbers of bfloat16 are 64 apart; rounded so, they hid a row's last
token from it. This module imports torch at the top: see transformers_backend.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

NAME = "shared_prefix"  # of the attention, as transformers calls it
LEAST = 32  # tokens of a prefix that is worth it


class Prefix(NamedTuple):
    """The keys and values (heads, tokens, width) of the prefix, by layer."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]


def shared_tokens(model: Any, ids: list[list[int]]) -> int:
    """Return how many tokens of a common prefix of all prompts are to be shared; 0 where it does not pay.

    On a CPU and in bfloat16 alone: the results of the embedded model, which computes in float32, stay what they are.
    """
    fits = model.device.type == "cpu" and model.dtype == torch.bfloat16 and model._supports_attention_backend
    if not fits or len(ids) < 2:
        return 0
    first, last = min(ids), max(ids)  # in the order of lists, all others lie between these
    n = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return n if n >= LEAST else 0


@contextmanager
def shared(model: Any, n_tokens: int) -> Iterator[None]:
    """A block in which the model's layers take the argument `prefix`, unless there is nothing to share."""
    if not n_tokens:
        yield
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    prefix: Prefix | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention in transformers' form: query (n, heads, 1, width), result (n, 1, heads, width).

    key, value: (n, key heads, tokens, width), of the rows' own tokens. prefix: None where a prompt is read.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if prefix is None:
        result: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return result
    common_keys, common_values = prefix.keys[module.layer_idx], prefix.values[module.layer_idx]
    n, n_heads, _, width = query.shape
    n_key_heads, n_common, _ = common_keys.shape
    query = query.float().view(n, n_key_heads, -1, width) * kwargs["scaling"]
    own = torch.matmul(query, key.float().transpose(2, 3)) + attention_mask
    for_all = query.transpose(0, 1).reshape(n_key_heads, -1, width)  # the queries of all rows, by key head
    common = torch.matmul(for_all, common_keys.float().transpose(1, 2)).view(n_key_heads, n, -1, n_common)
    weights = torch.cat([common.transpose(0, 1), own], -1).softmax(-1).to(value.dtype)
    of_common = weights[..., :n_common].transpose(0, 1).reshape(n_key_heads, -1, n_common)
    result_common = torch.matmul(of_common, common_values).view(n_key_heads, n, -1, width).transpose(0, 1)
    output = torch.matmul(weights[..., n_common:], value) + result_common
    return output.reshape(n, 1, n_heads, width), None
