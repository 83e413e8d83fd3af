"""The prefix: what all texts of a batch begin with, the task's prompt above all, read once instead of once a text.

Every pair of a task has the same prompt, so a batch of n pairs holds it 2n times. What a causal model makes of it does
not depend on what follows: it is read once, its keys and values are lent to all texts, and the gradients come back
through them. The results are the same but for rounding. arXiv 2410.20305 does so for the two answers of one pair.
"""

from typing import Any

SCORING = {"input_ids", "attention_mask", "use_cache"}  # TRL's arguments, where no cache is filled
SHORTEST = 16  # tokens: below it, a second pass costs what it spares


def share_prefix(model: Any) -> None:
    """Have the model's layers read a batch's prefix once, in training and where references are computed.

    Not in generation, which has a cache of its own; not in models some of whose layers do not keep all keys; and not to
    be used where the backward pass computes activations again, as layers then take no keys from outside.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    backbone = (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model
    plain = backbone.forward
    if not all(type(layer) is DynamicLayer for layer in DynamicCache(config=backbone.config).layers):
        return

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = {name for name, value in kwargs.items() if value is not None}  # PEFT hands on all that it knows of
        is_scoring = not args and given == SCORING and not kwargs["use_cache"]
        texts = [kwargs.get(name) for name in ("input_ids", "attention_mask")]
        length = common(*texts) if is_scoring else 0
        return read(plain, length, *texts) if length >= SHORTEST else plain(*args, **kwargs)

    backbone.forward = forward


def common(input_ids: Any, attention_mask: Any) -> int:
    """Tokens that all texts, shape (texts, tokens), begin with, none of them padding. One of each text is left over."""
    is_same = (input_ids == input_ids[:1]).all(0) & attention_mask.bool().all(0)
    return int(is_same[:-1].cumprod(0).sum()) if len(input_ids) > 1 else 0


def read(plain: Any, length: int, input_ids: Any, attention_mask: Any) -> Any:
    """What plain gives for the texts, the first tokens of all being the same: hidden states of every token."""
    import torch

    first = plain(input_ids=input_ids[:1, :length], attention_mask=attention_mask[:1, :length], use_cache=True)
    for layer in first.past_key_values.layers:  # views, where the cache's own method copies
        layer.keys, layer.values = (each.expand(len(input_ids), -1, -1, -1) for each in (layer.keys, layer.values))
    rest = plain(
        input_ids=input_ids[:, length:],
        attention_mask=attention_mask,
        past_key_values=first.past_key_values,
        use_cache=True,
    )
    lent = first.last_hidden_state.expand(len(input_ids), -1, -1)
    return type(rest)(last_hidden_state=torch.cat([lent, rest.last_hidden_state], dim=1))
