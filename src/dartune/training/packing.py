"""Packing: the texts of a batch in one row without padding, and what all begin with, the task's prompt above all, once.

Every pair of a task has the same prompt, so a batch of n pairs holds it 2n times, and its two answers are seldom of
one length. What a causal model makes of a token depends on those before it alone: the row holds the common beginning
and then what each text has of its own, and attention sees to it that a text reads the beginning and itself. Results
are the same but for rounding. arXiv 2410.20305 reads the prompt once for the two answers of one pair.
"""

from dataclasses import dataclass
from inspect import signature
from typing import Any

SCORING = {"input_ids", "attention_mask", "use_cache"}  # TRL's arguments, where no cache is filled
NAME = "packed"  # of the attention, as transformers calls it
WORTH = 1 / 32  # of the tokens; a beginning that spares fewer is left in each text, where its keys need no copies


@dataclass(frozen=True)
class Layout:
    """Where the tokens of texts (n, tokens) lie in a row of n_row tokens, the common beginning first.

    source: (n_row,) places in the flattened texts. target: (n * tokens,) places in the row; of padding, any. positions:
    (1, n_row). keys: places in the row of what the beginning and each text read, one after the other; None where these
    are the row's. sizes, n_keys: tokens of each in the row and in keys; ends: where each ends there, counted from 0,
    (2, n + 2).
    """

    source: Any
    target: Any
    positions: Any
    keys: Any
    sizes: list[int]
    n_keys: list[int]
    ends: Any


def pack(model: Any) -> None:
    """Have the model's layers read batches packed, in training and where references are computed.

    Not in generation, which has a cache of its own; not models that are not packable.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not is_packable(causal):
        return
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    causal.set_attn_implementation(NAME)
    backbone, plain = causal.base_model, causal.base_model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = {name for name, value in kwargs.items() if value is not None}  # PEFT hands on all that it knows of
        is_scoring = not args and given == SCORING and not kwargs["use_cache"]
        return read(plain, kwargs["input_ids"], kwargs["attention_mask"]) if is_scoring else plain(*args, **kwargs)

    backbone.forward = forward


def is_packable(model: Any) -> bool:
    """Whether all layers keep all keys, and leave the attention, without dropout, to transformers."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    keeps_all = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
    return keeps_all and model._supports_attention_backend and not getattr(model.config, "attention_dropout", None)


def read(plain: Any, input_ids: Any, attention_mask: Any) -> Any:
    """What plain gives for the texts, shape (n, tokens): hidden states of every token, of padding any."""
    layout = lay_out(input_ids, attention_mask)
    found = plain(
        input_ids=input_ids.flatten()[layout.source][None],
        attention_mask=attention_mask.new_ones(1, 1, 1, 1),  # of four dimensions: transformers makes no mask of its own
        position_ids=layout.positions,
        use_cache=False,
        layout=layout,
    )
    hidden = found.last_hidden_state.squeeze(0).index_select(0, layout.target)
    return type(found)(last_hidden_state=hidden.view(*input_ids.shape, -1))


def lay_out(input_ids: Any, attention_mask: Any) -> Layout:
    import torch

    n, n_tokens = input_ids.shape
    is_own, device, whole = attention_mask.bool(), input_ids.device, attention_mask.sum(1).tolist()
    begun = common(input_ids, is_own)
    begun = begun if begun * (n - 1) > WORTH * sum(whole) else 0
    is_own[:, :begun] = False
    own = is_own.flatten().nonzero().squeeze(1)
    n_row, start = begun + len(own), torch.arange(begun, device=device)
    n_more = n_filling(n_row, device.type)
    target = torch.arange(n * n_tokens, device=device) % n_row  # padding's are spread, as their gradients are added up
    target[own] = torch.arange(begun, n_row, device=device)
    target.view(n, n_tokens)[:, :begun] = start
    sizes = [begun, *(size - begun for size in whole), n_more]
    texts = torch.split(torch.arange(n_row, device=device), sizes[:-1])[1:]
    filling = torch.arange(n_more, device=device)  # of tokens that are there, read by themselves and used by none
    keys = torch.cat([start, *(each for text in texts for each in (start, text)), n_row + filling]) if begun else None
    n_keys = [begun, *(begun + size for size in sizes[1:-1]), n_more]
    ends = torch.tensor([[0, *sizes], [0, *n_keys]], device=device).cumsum(1, dtype=torch.int32)
    source = torch.cat([start, own, filling])
    return Layout(source, target, (source % n_tokens)[None], keys, sizes, n_keys, ends)


def n_filling(n_row: int, device: str) -> int:
    """Tokens that fill a row up to one of few lengths, on a GPU, where with each new length cuBLAS chooses kernels anew
    for each product: to a multiple of a power of two that is a 32nd to a 64th of it.
    """
    return -n_row % (1 << max(0, n_row.bit_length() - 6)) if device == "cuda" else 0


def common(input_ids: Any, is_read: Any) -> int:
    """Tokens that all texts begin with, none of them padding."""
    return int(((input_ids == input_ids[:1]) & is_read).all(0).cumprod(0).sum())


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, layout: Layout | None = None, **kwargs: Any
) -> tuple[Any, None]:
    """Attention as transformers asks for it: query (1, heads, n_row, width), result (1, n_row, heads, width).

    layout: None where nothing is packed.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if layout is None:
        found: tuple[Any, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return found
    query, key, value = (each.squeeze(0).transpose(0, 1) for each in (query, key, value))  # (tokens, heads, width)
    if layout.keys is not None:
        key, value = key.index_select(0, layout.keys), value.index_select(0, layout.keys)
    how = at_once if query.is_cuda and torch.is_autocast_enabled("cuda") else one_by_one
    return how(query, key, value, layout, kwargs["scaling"])[None], None


def at_once(query: Any, keys: Any, values: Any, layout: Layout, scale: float) -> Any:
    """By the flash attention that torch brings along, which knows of texts of different lengths; on a GPU, in bf16."""
    import torch
    from torch.nn.attention.varlen import varlen_attn

    attention: Any = varlen_attn
    grouped = {"enable_gqa": True} if "enable_gqa" in signature(attention).parameters else {}  # torch 2.11 does not ask
    parts = (each.to(torch.bfloat16) for each in (query, keys, values))
    longest = max(layout.sizes), max(layout.n_keys)
    return attention(*parts, *layout.ends, *longest, scale=scale, window_size=(-1, 0), **grouped)


def one_by_one(query: Any, keys: Any, values: Any, layout: Layout, scale: float) -> Any:
    """Text by text, elsewhere."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    parts = zip(query.split(layout.sizes), keys.split(layout.n_keys), values.split(layout.n_keys), strict=True)
    found = []
    for q, k, v in parts:
        mask = torch.ones(len(q), len(k), dtype=torch.bool, device=q.device).tril(len(k) - len(q))
        q, k, v = (each.transpose(0, 1)[None] for each in (q, k, v))
        result = scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=True)
        found.append(result[0].transpose(0, 1))
    return torch.cat(found)
