"""TRL 1.16 set with care: the options and public hooks that its documentation, transformers' and PEFT's offer.

Used by gpu_train.py and training.py as the arm between TRL's defaults and ours. What is not installed is skipped;
`settings` says what was in force. Taken:

activations are kept (activation checkpointing is TRL's default); the reference's log-probabilities are computed once;
rows are grouped by length, the longest first in the reference's pass; Liger's kernels; flash attention 2 by flash-attn,
or, without it, no padding mask (the collator is an argument of the trainer; texts are padded on the right and attention
is causal, so a mask changes no result, but with one torch cannot choose its flash kernel); inputs of an adapter stay in
bf16 (PEFT's disable_input_dtype_casting), its weights in float32; fused AdamW (the default); copies that do not block,
two workers that prepare batches, TF32; logs every 50 steps, a loss that is not inspected for NaN at each of them.

Not taken: padding_free, which TRL 1.16 warns about and ignores; packing, which its DPO does not have; torch.compile,
which compiles anew for new lengths and is no advice of TRL's; Hub kernels (use_kernels), which need the network.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from importlib.util import find_spec
from typing import Any


def settings(on_gpu: bool, keep_activations: bool = True) -> dict[str, Any]:
    """Arguments of DPOConfig, by the names that the installed transformers has for them."""
    from trl import DPOConfig

    names = {field.name for field in fields(DPOConfig)}
    checkpointing = "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
    by_length = {"train_sampling_strategy": "group_by_length"}
    chosen: dict[str, Any] = {
        checkpointing: not keep_activations,
        "precompute_ref_log_probs": True,
        "remove_unused_columns": False,  # the column length would go before rows are grouped by it
        "logging_steps": 50,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
    }
    chosen |= by_length if "train_sampling_strategy" in names else {"group_by_length": True}
    if on_gpu:
        chosen |= {"tf32": True, "accelerator_config": {"non_blocking": True}}
        chosen |= {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}
        chosen |= {"use_liger_kernel": True} if find_spec("liger_kernel") else {}
    return chosen


def attention(on_gpu: bool, default: str) -> str:
    """The implementation to load the model with."""
    return "flash_attention_2" if on_gpu and find_spec("flash_attn") else default


class WithoutMask:
    """A collator whose attention mask is all ones, so that transformers hands none to torch. Texts are padded on the
    right, behind all that a causal model reads for them."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        batch = self.collate(rows)
        batch["attention_mask"].fill_(1)
        return batch


def uncast(model: Any, on_gpu: bool) -> AbstractContextManager[None]:
    """A block where PEFT does not cast an adapter's inputs to float32, the type of its weights: autocast would only
    cast them back. Without autocast (on a CPU) the types are the same anyway."""
    if not on_gpu:
        return nullcontext()
    from peft.helpers import disable_input_dtype_casting

    context: AbstractContextManager[None] = disable_input_dtype_casting(model)
    return context
