"""Speed: what spares work in every step of a training and leaves its results as they are, but for rounding.

Adapters have a module of their own, adapter.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any
from uuid import uuid4

from dartune.training.packing import pack

TILE = (4096, 32768)  # tokens and words of the head's logits that TRL holds at once: trl/kernels/chunked_logprob.py
NORMS = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")  # that are torch's; Gemma's adds 1


def speed_up(model: Any) -> None:
    """Before the trainer is made."""
    fit_tile(model)
    pack(model)
    fuse(model)


def fuse(model: Any) -> None:
    """On a GPU, one kernel for each norm, torch's, and, where Liger is installed (arXiv 2410.10989), for each rotation
    and feed-forward activation. Its loss is not taken, as TRL has its own, nor its norms, which take twice as long.
    """
    import torch

    if not torch.cuda.is_available():
        return
    if find_spec("liger_kernel"):
        from transformers.integrations.liger import apply_liger_kernel

        apply_liger_kernel(model, {"fused_linear_cross_entropy": False, "rms_norm": False})
    fuse_norms(model)


def fuse_norms(model: Any) -> None:
    import torch
    from torch.nn.functional import rms_norm

    def normed(norm: Any, x: Any) -> Any:
        with torch.autocast(x.device.type, enabled=False):  # which would have it give float32
            return rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)

    for norm in (each for each in model.modules() if type(each).__name__ in NORMS):
        norm.forward = partial(normed, norm)


def fit_tile(model: Any) -> None:
    """Have TRL's tile no wider than the vocabulary: else each token's logits, however few, lie on pages of their own,
    which are faults in every step. The name is not public; requirements.in pins TRL.
    """
    from trl.trainer import utils

    utils._CHUNKED_LOGPROB_CHUNK_SIZE = min(TILE[1], model.config.get_text_config().vocab_size)


def spare_hash() -> None:
    """Before a DPOTrainer is made: have TRL not hash all weights, over 80 s for eight billions of them. By that it
    names a file of the reference's log-probabilities, in a folder that ends with the process.
    """
    from trl.trainer import dpo_trainer

    dpo_trainer.hash_module = lambda module: uuid4().hex


@contextmanager
def lean_steps(trainer: Any) -> Iterator[None]:
    """A block where the trainer's steps do less, about their adapters (adapter.py) and about what they were told."""
    from dartune.training.fused_lora import lean_adapters

    with lean_adapters(trainer.model), told_once(trainer):
        yield


@contextmanager
def told_once(trainer: Any) -> Iterator[None]:
    """A block where no step goes through all modules, of which a PEFT model has hundreds, to hear again whether they
    are in training, what their parameters are and how many FLOPs a batch needs (0 here; nobody reads it). A GPU waits
    meanwhile. Several processes replace parameters, and do without.
    """
    if trainer.args.world_size > 1:
        yield
        return
    model, known, mode = trainer.model, list[Any](), None
    train, parameters = model.train, model.parameters

    def set_mode(wanted: bool = True) -> Any:
        nonlocal mode
        if mode is not wanted:
            mode, known[:] = wanted, parameters()
            train(wanted)
        return model

    model.train, model.parameters = set_mode, lambda recurse=True: iter(known) if known else parameters(recurse)
    trainer.floating_point_ops = lambda inputs: 0
    try:
        yield
    finally:
        del model.train, model.parameters, trainer.floating_point_ops
