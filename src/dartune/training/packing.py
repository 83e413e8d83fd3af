"""Packing: the texts of a batch in one row without padding, and what all begin with (the task's prompt) only once.

Every pair of a task has the same prompt, so a batch of n pairs holds it 2n times, and its two answers seldom have the
same length. In a causal model a token depends on those before it alone: the row holds the common prefix and then the
rest of each text, and attention lets a text read the prefix and itself. Results are the same but for rounding. arXiv
2410.20305 reads the prompt once for the two answers of one pair.
"""

from dataclasses import dataclass
from typing import Any

SCORING = {"input_ids", "attention_mask", "use_cache"}  # arguments of TRL's passes that fill no cache
NAME = "packed"  # of the attention, as transformers calls it
MIN_SHARED = 1 / 32  # of the tokens; a prefix that saves fewer stays in each text, where its keys need no copies


@dataclass(frozen=True)
class Layout:
    """Where the tokens of texts (n, tokens) lie in a row of n_row tokens, the common prefix first.

    source: (n_row,) positions in the flattened texts. target: (n * tokens,) positions in the row; those of padding are
    arbitrary. positions: (1, n_row) of each token in its text. keys: positions in the row of what the prefix and each
    text read, one after the other; None where these are the row's. sizes, n_keys: tokens of the prefix and of each
    text, in the row and in keys; ends: where each of these ends there, counted from 0, (2, n + 2).
    """

    source: Any
    target: Any
    positions: Any
    keys: Any
    sizes: list[int]
    n_keys: list[int]
    ends: Any


def pack(model: Any) -> None:
    """Make the model's layers read batches packed, in training and in the reference's pass.

    Generation, which has a cache, and models that are not packable stay as they are.
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
        given = {name for name, value in kwargs.items() if value is not None}  # PEFT passes on arguments that are None
        is_scoring = not args and given == SCORING and not kwargs["use_cache"]
        if not is_scoring:
            return plain(*args, **kwargs)
        return packed_forward(plain, kwargs["input_ids"], kwargs["attention_mask"])

    backbone.forward = forward


def is_packable(model: Any) -> bool:
    """Return whether all layers keep all keys, and leave attention to transformers, without dropout."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    keeps_all = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
    return keeps_all and model._supports_attention_backend and not getattr(model.config, "attention_dropout", None)


def packed_forward(plain: Any, input_ids: Any, attention_mask: Any) -> Any:
    """Return what `plain` gives for the texts, shape (n, tokens): hidden states; those of padding are arbitrary."""
    layout = lay_out(input_ids, attention_mask)
    output = plain(
        input_ids=input_ids.flatten()[layout.source][None],
        attention_mask=attention_mask.new_ones(1, 1, 1, 1),  # four dimensions: transformers makes no mask of its own
        position_ids=layout.positions,
        use_cache=False,
        layout=layout,
    )
    hidden = output.last_hidden_state.squeeze(0).index_select(0, layout.target)
    return type(output)(last_hidden_state=hidden.view(*input_ids.shape, -1))


def lay_out(input_ids: Any, attention_mask: Any) -> Layout:
    """Return the layout of texts (n, tokens). Waits for the GPU once, for the texts' lengths."""
    import torch

    n, n_tokens = input_ids.shape
    is_rest, device, lengths = attention_mask.bool(), input_ids.device, attention_mask.sum(1).tolist()
    n_prefix = common_prefix(input_ids, is_rest)
    n_prefix = n_prefix if n_prefix * (n - 1) > MIN_SHARED * sum(lengths) else 0
    is_rest[:, :n_prefix] = False
    rest = is_rest.flatten().nonzero().squeeze(1)
    n_row, prefix = n_prefix + len(rest), torch.arange(n_prefix, device=device)
    # Padding's targets are spread over the row, because their gradients are summed up.
    target = torch.arange(n * n_tokens, device=device) % n_row
    target[rest] = torch.arange(n_prefix, n_row, device=device)
    target.view(n, n_tokens)[:, :n_prefix] = prefix
    sizes = [n_prefix, *(length - n_prefix for length in lengths)]
    n_keys = [n_prefix, *(n_prefix + size for size in sizes[1:])]
    keys = None
    if n_prefix:
        texts = torch.split(torch.arange(n_row, device=device), sizes)[1:]
        keys = torch.cat([prefix, *(part for text in texts for part in (prefix, text))])
    ends = torch.tensor([[0, *sizes], [0, *n_keys]], device=device).cumsum(1, dtype=torch.int32)
    source = torch.cat([prefix, rest])
    return Layout(source, target, (source % n_tokens)[None], keys, sizes, n_keys, ends)


def common_prefix(input_ids: Any, is_token: Any) -> int:
    """Return how many tokens all texts (n, tokens) begin with, none of them padding."""
    return int(((input_ids == input_ids[:1]) & is_token).all(0).cumprod(0).sum())


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, layout: Layout | None = None, **kwargs: Any
) -> tuple[Any, None]:
    """Return attention in transformers' form: query (1, heads, n_row, width), result (1, n_row, heads, width).

    layout: None where nothing is packed.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    from dartune.training.attention import attention_by_text, flash_attention

    if layout is None:
        result: tuple[Any, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return result
    # (tokens, heads, width); squeeze, because the backward pass of query[0] copies
    query, key, value = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))
    if layout.keys is not None:
        key, value = key.index_select(0, layout.keys), value.index_select(0, layout.keys)
    attention = flash_attention if query.is_cuda and torch.is_autocast_enabled("cuda") else attention_by_text
    return attention(query, key, value, layout, kwargs["scaling"])[None], None
