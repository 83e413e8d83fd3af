"""All that is changed of TRL 1.16, PEFT 0.21 and transformers 5, and why. Results stay the same but for rounding.

TrainerMixin          a trainer stops at a loss that is not finite: TRL goes on with such weights.
                      Rows of a step do not depend on the number of processes, and each epoch has an order of its own,
                      also when it is resumed: transformers' sampler groups the batch of one process, and a resumed
                      epoch repeats the first one's order.
patch_model           packing.py: TRL's padding_free does nothing in DPO since its refactoring. Liger's kernels on a GPU
                      without its loss, which does not know packed texts.
score_labels_only     on a CPU TRL computes the probabilities of prompts and padding too, in tiles that no cache holds:
                      half of a step of a small model with a large vocabulary. A frozen head's: label_log_probs.py.
plain_adapter_inputs  a setting of PEFT's that TRL does not pass on.
skip_reference_hash   TRL hashes all weights, over 80 s for 8B, to name a file in a folder that ends with the process.
plain_reference       TRL copies a tuned adapter as its own reference, dropout included.

tests/training/test_patches.py checks that the unpatched libraries still do what each patch is there for.
"""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from dartune.errors import UserError
from dartune.training.packing import pack

LARGE_VOCABULARY = 8192  # tokens; for smaller ones the probabilities are a small part of a step
TILE = 256  # positions whose probabilities are computed at once, each for LARGE_VOCABULARY tokens: 8 MiB in float32
KNOWN = {"trl": "1.16", "peft": "0.21", "transformers": "5"}


@cache
def check_versions() -> None:
    """Warn once on stderr about each library whose installed version is not the one that the patches were made for."""
    for name, known in KNOWN.items():
        if not f"{version(name)}.".startswith(f"{known}."):
            advice = "run tests/training/test_patches.py and install the versions of requirements.lock if it fails"
            said = f"train: {name} {version(name)} is installed, and training/patches.py knows {known}; {advice}"
            print(said, file=sys.stderr)


def diverged(what: str, step: int) -> UserError:
    """Return the error of a training whose numbers are not finite."""
    return UserError(
        f"train: {what} at step {step}; lower the trainer's learning_rate or train.max_grad_norm, or raise"
        " train.warmup_steps"
    )


class TrainerMixin:
    """Stands before one of TRL's trainers."""

    args: Any
    state: Any
    train_dataset: Any

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """TRL's loss; raises UserError where it is not finite."""
        import torch

        result = super().compute_loss(model, *args, **kwargs)  # type: ignore[misc]
        loss = result[0] if isinstance(result, tuple) else result
        if not bool(torch.isfinite(loss)):
            raise diverged(f"the loss is {float(loss.detach())}", self.state.global_step + model.training)
        return result

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Return the order of the rows; online trainers, which repeat one prompt, keep TRL's."""
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        rows = self.train_dataset if train_dataset is None else train_dataset
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return GroupedByLength(list(rows["length"]), size, self)


class GroupedByLength:
    """A sampler: each epoch's row numbers, in steps of `size` rows of similar length; the order depends on the epoch.

    lengths: tokens of each row. trainer: gives the seed and the epoch.
    """

    def __init__(self, lengths: list[int], size: int, trainer: Any) -> None:
        self.lengths, self.size, self.trainer = lengths, size, trainer

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        from torch import Generator
        from transformers.trainer_pt_utils import get_length_grouped_indices

        generator = Generator().manual_seed(self.trainer.args.seed + int(self.trainer.state.epoch or 0))
        return iter(get_length_grouped_indices(self.lengths, self.size, generator=generator))


def patched(trainer: type) -> Any:
    """Return the trainer's class with TrainerMixin before it. Warns where a library has an unknown version."""
    check_versions()
    return type(trainer.__name__, (TrainerMixin, trainer), {})


def patch_model(model: Any) -> None:
    """Pack the model's batches; on a GPU take Liger's kernels (arXiv 2410.10989) where it is installed.

    Call it before the trainer is made. Liger's loss is left out: TRL has its own.
    """
    import torch

    pack(model)
    if not torch.cuda.is_available() and model.config.vocab_size > LARGE_VOCABULARY:
        score_labels_only()
    if torch.cuda.is_available() and find_spec("liger_kernel"):
        from transformers.integrations.liger import apply_liger_kernel

        apply_liger_kernel(model, {"fused_linear_cross_entropy": False})


def score_labels_only() -> None:
    """Make TRL's language-model head compute the positions alone that have a label, as on a GPU, and in small tiles.

    A frozen head computes them and their gradient at once. For the rest of the process.
    """
    from trl.kernels import chunked_logprob
    from trl.trainer import utils

    from dartune.training.label_log_probs import FrozenHead

    utils._use_triton = lambda device: True  # it decides there on the positions alone; the kernels have their own
    utils._CHUNKED_LOGPROB_CHUNK_SIZE, chunked_logprob.TOKEN_CHUNK_SIZE = LARGE_VOCABULARY, TILE
    utils._ChunkedLogProbFunction = SimpleNamespace(apply=FrozenHead.call)


def skip_reference_hash() -> None:
    """Name TRL's file of the reference's log-probabilities at random instead. Before a DPOTrainer is made."""
    from trl.trainer import dpo_trainer

    dpo_trainer.hash_module = lambda module: uuid4().hex


@contextmanager
def plain_reference(model: Any) -> Iterator[None]:
    """A block in which TRL's copy of a tuned adapter, the reference, gets no dropout."""
    config = model.peft_config["default"] if hasattr(model, "peft_config") else SimpleNamespace(lora_dropout=0.0)
    dropout, config.lora_dropout = config.lora_dropout, 0.0
    try:
        yield
    finally:
        config.lora_dropout = dropout


def plain_adapter_inputs(model: Any) -> AbstractContextManager[None]:
    """A block in which PEFT does not cast the inputs of adapters to float32; autocast would cast them back to bf16."""
    from peft.helpers import disable_input_dtype_casting

    block: AbstractContextManager[None] = (
        disable_input_dtype_casting(model) if hasattr(model, "peft_config") else nullcontext()
    )
    return block
