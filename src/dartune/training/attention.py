"""Attention of texts in one row, where each reads a common prefix and itself.

This module imports torch at the top: import it only where a model is about to run.
"""

from inspect import signature
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention

from dartune.training.packing import Layout


def flash_attention(query: Any, keys: Any, values: Any, layout: Layout, scale: float) -> Any:
    """Return attention (n_row, heads, width) by torch's flash attention for texts of different lengths, in bf16."""
    attention: Any = varlen_attn
    grouped = {"enable_gqa": True} if "enable_gqa" in signature(attention).parameters else {}  # torch 2.11 has it on
    tensors = (tensor.to(torch.bfloat16) for tensor in (query, keys, values))
    longest = max(layout.sizes), max(layout.n_keys)
    return attention(*tensors, *layout.ends, *longest, scale=scale, window_size=(-1, 0), **grouped)


def attention_by_text(query: Any, keys: Any, values: Any, layout: Layout, scale: float) -> Any:
    """Return attention (n_row, heads, width), one text after the other."""
    attention = bf16_attention if query.dtype == torch.bfloat16 and query.device.type == "cpu" else torch_attention
    texts = zip(query.split(layout.sizes), keys.split(layout.n_keys), values.split(layout.n_keys), strict=True)
    results = []
    for text in texts:
        q, k, v = (tensor.transpose(0, 1) for tensor in text)
        is_later = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device).triu(
            1 + k.shape[1] - q.shape[1]
        )
        results.append(attention(q, k, v, is_later, scale).transpose(0, 1))
    return torch.cat(results)


def torch_attention(query: Any, key: Any, value: Any, is_later: Any, scale: float) -> Any:
    """Return torch's attention (heads, n, width). key, value: (key heads, m, width). is_later: (n, m), left out."""
    query, key, value = (tensor[None] for tensor in (query, key, value))
    return scaled_dot_product_attention(query, key, value, ~is_later, scale=scale, enable_gqa=True)[0]


def bf16_attention(query: Any, key: Any, value: Any, is_later: Any, scale: float) -> Any:
    """The same by matrix products, which take a processor's bf16 units; torch's attention took three times as long."""
    (n_heads, n, width), (n_key_heads, n_keys, _) = query.shape, key.shape
    n_queries = n_heads // n_key_heads * n  # of a key head; a text may have no token of its own
    is_later = is_later.repeat(n_heads, 1).view(n_key_heads, n_queries, n_keys)
    query = query.reshape(n_key_heads, n_queries, width)
    weights: Any = Weights.apply(query, key, is_later, scale)  # type: ignore[no-untyped-call]
    return (weights @ value).view(n_heads, n, width)


class Weights(torch.autograd.Function):
    """Attention weights in bf16, from scores in float32: models/prefix.py says why.

    The weights alone are kept for the backward pass, 2 bytes for each pair of tokens and head; its products are bf16.
    """

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, is_later: Any, scale: float) -> Any:
        """Return weights (key heads, n, m). query, key: (key heads, n or m, width). is_later: as weights."""
        with torch.autocast("cpu", enabled=False):  # it would take float32 for bf16
            scores = (query.float() * scale) @ key.float().transpose(1, 2)
        weights = scores.masked_fill_(is_later, float("-inf")).softmax(-1).to(query.dtype)
        ctx.save_for_backward(query, key, weights)
        ctx.scale = scale
        return weights

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        """Return the gradients of query and key."""
        query, key, weights = ctx.saved_tensors
        gradient = torch._softmax_backward_data(gradient, weights, -1, weights.dtype) * ctx.scale
        return gradient @ key, gradient.transpose(1, 2) @ query, None, None
