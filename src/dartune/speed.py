"""Speed: what spares work in every step of a training and leaves its results as they are, but for rounding."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from dartune.packing import pack

TILE = (4096, 32768)  # tokens and words of the head's logits that TRL holds at once: trl/kernels/chunked_logprob.py


def speed_up(model: Any) -> None:
    """Before the trainer is made."""
    fit_tile(model)
    pack(model)
    fuse(model)


def fuse(model: Any) -> None:
    """On a GPU, one kernel for each norm, rotation and feed-forward activation: Liger's (arXiv 2410.10989), if it is
    installed. Its loss is not taken: TRL has its own.
    """
    import torch
    from transformers.integrations.liger import apply_liger_kernel

    if torch.cuda.is_available() and find_spec("liger_kernel"):
        apply_liger_kernel(model, {"fused_linear_cross_entropy": False})


@contextmanager
def lean_adapters(model: Any) -> Iterator[None]:
    """A block where adapters do less. They take their inputs as autocast has them, in bf16, where PEFT would make
    float32 of each, which autocast undoes and the backward pass keeps; and they are added in one product.
    """
    from peft.tuners.lora import Linear

    layers = [each for each in model.modules() if isinstance(each, Linear) and is_plain(each)]
    for layer in layers:
        layer.cast_input_dtype_enabled = False
        layer.lora_variant |= dict.fromkeys(layer.lora_A, Added)  # also of the adapter that is the reference
    try:
        yield
    finally:
        for layer in layers:
            layer.cast_input_dtype_enabled = True
            layer.lora_variant.clear()


def is_plain(layer: Any) -> bool:
    """Whether the adapter is two products, of weights that are here: ZeRO's third stage fetches them by module."""
    outer = [each for each in layer.lora_B.values() if hasattr(each.weight, "ds_id") or each.bias is not None]
    return not layer.lora_variant and not outer


class Added:
    """PEFT's variant of a layer that adds its adapter to the result in one product, where it has three operations.

    PEFT says that variants may change between its versions; requirements.in pins it.
    """

    @staticmethod
    def forward(layer: Any, active_adapter: str, x: Any, result: Any, **_: Any) -> Any:
        import torch

        dropout, scale = layer.lora_dropout[active_adapter], layer.scaling[active_adapter]
        a, b = layer.lora_A[active_adapter], layer.lora_B[active_adapter]
        if result.dtype != a.weight.dtype and not torch.is_autocast_enabled(x.device.type):  # while it writes
            return result + b(a(dropout(x.to(a.weight.dtype)))) * scale
        inner = a(dropout(x)).flatten(0, -2)
        return torch.addmm(result.flatten(0, -2), inner, b.weight.t(), alpha=scale).view_as(result)


def fit_tile(model: Any) -> None:
    """Have TRL's tile no wider than the vocabulary: else each token's logits, however few, lie on pages of their own,
    which are faults in every step. The name is not public; requirements.in pins TRL.
    """
    from trl.trainer import utils

    utils._CHUNKED_LOGPROB_CHUNK_SIZE = min(TILE[1], model.config.get_text_config().vocab_size)
