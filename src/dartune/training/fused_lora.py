"""Adapters in training: layers that read the same input, with LoRA, as one operation.

PEFT has three operations for an adapter beside its layer's product, and autograd adds up what each of them says of the
input: passes over memory, which on a GPU take a sixth of a step. Here each product adds to the one before; queries,
keys and values share theirs, and what dropout lets through is computed again. Results are the same but for rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear

TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # names of layers that read the same input


@contextmanager
def lean_adapters(model: Any) -> Iterator[None]:
    """A block where the model's adapters are computed so, under autocast or where all is of one type.

    Only those that are two products beside a product, of weights that are here: ZeRO's third stage fetches them by
    module.
    """
    groups = [Group(layers) for layers in grouped(model)]
    for group in groups:
        for layer in group.layers:
            layer.forward = partial(group.forward, layer)
    try:
        yield
    finally:
        for group in groups:
            for layer in group.layers:
                del layer.forward


def grouped(model: Any) -> Iterator[list[Any]]:
    for parent in model.modules():
        layers = {name: each for name, each in parent.named_children() if is_plain(each)}
        for names in TOGETHER:
            if all(name in layers for name in names):
                yield [layers.pop(name) for name in names]
        yield from ([each] for each in layers.values())


def is_plain(layer: Any) -> bool:
    if type(layer) is not Linear or type(layer.get_base_layer()) is not torch.nn.Linear:
        return False
    outer = [each for each in layer.lora_B.values() if hasattr(each.weight, "ds_id") or each.bias is not None]
    return not layer.lora_variant and not outer


class Group:
    """Layers of one input. The first that is asked computes what all give; the others take theirs."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers
        self.bases = [layer.get_base_layer() for layer in layers]
        self.x: Any = None
        self.left: dict[Any, Any] = {}

    def forward(self, layer: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if x is not self.x or layer not in self.left:
            name = self.active(x)
            if args or kwargs or name is None:
                return Linear.forward(layer, x, *args, **kwargs)
            self.x, self.left = x, dict(zip(self.layers, self.compute(name, x), strict=True))
        result = self.left.pop(layer)
        self.x = self.x if self.left else None
        return result

    def active(self, x: Any) -> str | None:
        """The only adapter that is on, if it can be computed here: in a generation types are PEFT's to mix."""
        on = {() if each.disable_adapters or each.merged else tuple(each.active_adapters) for each in self.layers}
        names = on.pop()
        if on or len(names) != 1 or any(names[0] not in each.lora_A for each in self.layers):
            return None
        is_one_type = self.layers[0].lora_A[names[0]].weight.dtype == self.bases[0].weight.dtype
        return names[0] if is_one_type or torch.is_autocast_enabled(x.device.type) else None

    def compute(self, name: str, x: Any) -> list[Any]:
        """What each layer gives for x (..., in), with the adapter of this name."""
        kind, dtype = x.device.type, self.bases[0].weight.dtype
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else dtype
        dropout = self.layers[0].lora_dropout[name]
        rate = dropout.p if isinstance(dropout, torch.nn.Dropout) and dropout.training else 0.0
        fixed = [
            (base.weight.to(dtype), None if base.bias is None else base.bias.to(dtype), layer.scaling[name])
            for base, layer in zip(self.bases, self.layers, strict=True)
        ]
        a, b = ([getattr(each, of)[name].weight for each in self.layers] for of in ("lora_A", "lora_B"))
        found = Adapted.apply(  # type: ignore[no-untyped-call]
            x.to(dtype).flatten(0, -2), rate, fixed, *a, *b
        )
        return [each.view(*x.shape[:-1], -1) for each in found]


class Adapted(torch.autograd.Function):
    """Of each of several layers x W^T + bias + scale d(x) A^T B^T, shape (n, out), for x (n, in), in x's type.

    rate: of d, dropout; 0 for none. fixed: each layer's W (out, in), bias (out) or None, and scale. adapters: A (rank,
    in) of each layer, then B (out, rank) of each. Gradients: of x, A and B.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, rate: float, fixed: list[Any], *adapters: Any) -> tuple[Any, ...]:
        ctx.rate, ctx.fixed, ctx.ranks = rate, fixed, [len(each) for each in adapters[: len(fixed)]]
        own, b = adapters[: len(fixed)], [each.to(x.dtype) for each in adapters[len(fixed) :]]
        a = [each.to(x.dtype) for each in (own if rate or len(own) == 1 else [torch.cat(own)])]
        seen, masks = zip(*(torch.native_dropout(x, rate, True) if rate else (x, None) for _ in a), strict=True)
        inner = [each @ of.t() for each, of in zip(seen, a, strict=True)]
        ctx.save_for_backward(x, *a, *inner, *masks, *b)
        adding = zip(fixed, parts(inner, ctx.ranks, 1), b, strict=True)
        linear = torch.nn.functional.linear
        return tuple(linear(x, w, bias).addmm_(h, of.t(), alpha=scale) for (w, bias, scale), h, of in adding)

    @staticmethod
    def backward(ctx: Any, *of_results: Any) -> tuple[Any, ...]:
        x, *saved = ctx.saved_tensors
        n = (len(saved) - len(of_results)) // 3
        a, inner, masks, b = saved[:n], saved[n : 2 * n], saved[2 * n : 3 * n], saved[3 * n :]
        scales = [scale for _, _, scale in ctx.fixed]
        of_inner = [x.new_empty(len(x), len(each)) for each in a]
        for into, g, of, scale in zip(parts(of_inner, ctx.ranks, 1), of_results, b, scales, strict=True):
            into.addmm_(g, of, beta=0, alpha=scale)
        pairs = zip(of_results, parts(inner, ctx.ranks, 1), b, scales, strict=True)
        of_b = [torch.empty_like(of).addmm_(g.t(), h, beta=0, alpha=scale) for g, h, of, scale in pairs]
        of_a = [g.t() @ dropped(x, mask, ctx.rate) for g, mask in zip(of_inner, masks, strict=True)]
        of_x = of_input(ctx, of_results, of_inner, a, masks) if ctx.needs_input_grad[0] else None
        return of_x, None, None, *parts(of_a, ctx.ranks, 0), *of_b


def parts(tensors: Any, ranks: list[int], dim: int) -> Any:
    """One for each layer, of as many, or of one that all share."""
    return tensors if len(tensors) == len(ranks) else tensors[0].split(ranks, dim)


def dropped(x: Any, mask: Any, rate: float) -> Any:
    return x if mask is None else torch.ops.aten.native_dropout_backward(x, mask, 1 / (1 - rate))


def of_input(ctx: Any, of_results: Any, of_inner: list[Any], a: list[Any], masks: list[Any]) -> Any:
    """The gradient of x: each product is added to the sum of those before."""
    (first, *others), (w, *weights) = of_results, (each for each, _, _ in ctx.fixed)
    found = first @ w
    for g, w in zip(others, weights, strict=True):
        found.addmm_(g, w)
    for g, of, mask in zip(of_inner, a, masks, strict=True):
        if mask is None:
            found.addmm_(g, of)
        else:
            found += dropped(g @ of, mask, ctx.rate)
    return found
