"""LoRA layers that read the same input, computed as one operation.

PEFT computes an adapter in three operations beside its layer's product, and autograd sums up the gradients that each of
them has for the input: passes over memory that take a sixth of a step on a GPU. Here each product adds to the one
before; queries, keys and values share theirs, and what dropout let through is computed again in the backward pass.
Results are the same but for rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear

TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # names of layers that read the same input


@contextmanager
def fuse_lora(model: Any) -> Iterator[None]:
    """A block in which the model's LoRA layers are fused, under autocast or where all weights have one type.

    Only plain LoRA on nn.Linear whose weights are resident (not ZeRO-3, which fetches them module by module).
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
    """Yield the plain LoRA layers of a model, those that read the same input together."""
    for parent in model.modules():
        layers = {name: layer for name, layer in parent.named_children() if is_plain(layer)}
        for names in TOGETHER:
            if all(name in layers for name in names):
                yield [layers.pop(name) for name in names]
        yield from ([layer] for layer in layers.values())


def is_plain(layer: Any) -> bool:
    """Return whether a module is LoRA without a bias or variant on an nn.Linear whose weights are resident."""
    if type(layer) is not Linear or type(layer.get_base_layer()) is not torch.nn.Linear:
        return False
    others = [b for b in layer.lora_B.values() if hasattr(b.weight, "ds_id") or b.bias is not None]
    return not layer.lora_variant and not others


class Group:
    """Layers of one input. The first call computes all layers' outputs; later calls return the cached ones."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers
        self.bases = [layer.get_base_layer() for layer in layers]
        self.x: Any = None
        self.outputs: dict[Any, Any] = {}

    def forward(self, layer: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what `layer` gives for x (..., in)."""
        if x is not self.x or layer not in self.outputs:
            name = self.active_adapter(x)
            if args or kwargs or name is None:
                return Linear.forward(layer, x, *args, **kwargs)
            self.x, self.outputs = x, dict(zip(self.layers, self.compute(name, x), strict=True))
        output = self.outputs.pop(layer)
        self.x = self.x if self.outputs else None
        return output

    def active_adapter(self, x: Any) -> str | None:
        """Return the only active adapter, None where PEFT must compute: in generation it mixes types as it likes."""
        actives = {
            () if layer.disable_adapters or layer.merged else tuple(layer.active_adapters) for layer in self.layers
        }
        names = actives.pop()
        if actives or len(names) != 1 or any(names[0] not in layer.lora_A for layer in self.layers):
            return None
        is_one_type = self.layers[0].lora_A[names[0]].weight.dtype == self.bases[0].weight.dtype
        return names[0] if is_one_type or torch.is_autocast_enabled(x.device.type) else None

    def compute(self, name: str, x: Any) -> list[Any]:
        """Return each layer's output for x (..., in), with the adapter of this name."""
        kind, dtype = x.device.type, self.bases[0].weight.dtype
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else dtype
        dropout = self.layers[0].lora_dropout[name]
        rate = dropout.p if isinstance(dropout, torch.nn.Dropout) and dropout.training else 0.0
        frozen = [
            (base.weight.to(dtype), None if base.bias is None else base.bias.to(dtype), layer.scaling[name])
            for base, layer in zip(self.bases, self.layers, strict=True)
        ]
        a = [layer.lora_A[name].weight for layer in self.layers]
        b = [layer.lora_B[name].weight for layer in self.layers]
        outputs = FusedLora.apply(  # type: ignore[no-untyped-call]
            x.to(dtype).flatten(0, -2), rate, frozen, *a, *b
        )
        return [output.view(*x.shape[:-1], -1) for output in outputs]


class FusedLora(torch.autograd.Function):
    """x W^T + bias + scale dropout(x) A^T B^T of several layers, each of shape (n, out), for x (n, in), in x's type.

    rate: of the dropout, 0 for none. frozen: W (out, in), bias (out) or None, and scale of each layer. adapters: A
    (rank, in) of each layer, then B (out, rank) of each. Gradients: of x, A and B.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, rate: float, frozen: list[Any], *adapters: Any) -> tuple[Any, ...]:
        """Return each layer's output."""
        n = len(frozen)
        ctx.rate, ctx.frozen, ctx.ranks = rate, frozen, [len(a) for a in adapters[:n]]
        # Without dropout all layers read the same x, so their A are one matrix.
        a = [weight.to(x.dtype) for weight in (adapters[:n] if rate or n == 1 else [torch.cat(adapters[:n])])]
        b = [weight.to(x.dtype) for weight in adapters[n:]]
        inputs, masks = zip(*(torch.native_dropout(x, rate, True) if rate else (x, None) for _ in a), strict=True)
        hidden = [x @ weight.t() for x, weight in zip(inputs, a, strict=True)]
        ctx.save_for_backward(x, *a, *hidden, *masks, *b)
        layers = zip(frozen, split(hidden, ctx.ranks, 1), b, strict=True)
        linear = torch.nn.functional.linear
        return tuple(linear(x, w, bias).addmm_(h, of.t(), alpha=scale) for (w, bias, scale), h, of in layers)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        """Return the gradients of forward's arguments. grads: of each layer's output."""
        x, *saved = ctx.saved_tensors
        n = (len(saved) - len(grads)) // 3
        a, hidden, masks, b = saved[:n], saved[n : 2 * n], saved[2 * n : 3 * n], saved[3 * n :]
        scales = [scale for _, _, scale in ctx.frozen]
        hidden_grads = [x.new_empty(len(x), len(weight)) for weight in a]
        for into, g, weight, scale in zip(split(hidden_grads, ctx.ranks, 1), grads, b, scales, strict=True):
            into.addmm_(g, weight, beta=0, alpha=scale)
        layers = zip(grads, split(hidden, ctx.ranks, 1), b, scales, strict=True)
        b_grads = [torch.empty_like(weight).addmm_(g.t(), h, beta=0, alpha=scale) for g, h, weight, scale in layers]
        a_grads = [g.t() @ dropped(x, mask, ctx.rate) for g, mask in zip(hidden_grads, masks, strict=True)]
        x_grad = input_grad(ctx, grads, hidden_grads, a, masks) if ctx.needs_input_grad[0] else None
        return x_grad, None, None, *split(a_grads, ctx.ranks, 0), *b_grads


def split(tensors: Any, ranks: list[int], dim: int) -> Any:
    """Return one tensor per layer: the given ones, or the parts of the one that all layers share."""
    return tensors if len(tensors) == len(ranks) else tensors[0].split(ranks, dim)


def dropped(x: Any, mask: Any, rate: float) -> Any:
    """Return what the dropout of this mask let through of x, scaled; x itself without a mask."""
    return x if mask is None else torch.ops.aten.native_dropout_backward(x, mask, 1 / (1 - rate))


def input_grad(ctx: Any, grads: Any, hidden_grads: list[Any], a: list[Any], masks: list[Any]) -> Any:
    """Return the gradient of x (n, in): each product is added in place to the sum of those before."""
    (first, *others), (w, *weights) = grads, (weight for weight, _, _ in ctx.frozen)
    total = first @ w
    for g, w in zip(others, weights, strict=True):
        total.addmm_(g, w)
    for g, weight, mask in zip(hidden_grads, a, masks, strict=True):
        if mask is None:
            total.addmm_(g, weight)
        else:
            total += dropped(g @ weight, mask, ctx.rate)
    return total
