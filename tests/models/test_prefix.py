"""A prefix that all rows share is kept once, and rows are continued as if each had its own."""

from pathlib import Path

import pytest
import torch

from dartune.models import prefix
from dartune.models.checkpoint import open_model
from dartune.models.host import PLAIN, write_run
from dartune.models.prefix import LEAST, shared, shared_tokens
from dartune.models.transformers_backend import Slots

COMMON = [3 + i % 7 for i in range(40)]
PROMPTS = [[*COMMON, 5, 6, 7], [*COMMON, 8], COMMON, COMMON]
LENGTH = 60


@pytest.fixture
def bf16(random_base: Path) -> object:
    write_run(random_base, **PLAIN | {"dtype": "bfloat16"})
    torch.manual_seed(0)
    model = open_model(random_base).eval()
    for name, weight in model.named_parameters():
        if "norm" not in name:
            weight.data.normal_(0, 0.2)
    return model


@torch.inference_mode()
def continued(model: object, n_shared: int) -> torch.Tensor:
    """The logits after the prompts and after each of three more tokens, (4, prompts, vocabulary)."""
    slots = Slots(model, len(PROMPTS), LENGTH, n_shared)
    with shared(model, n_shared):
        seen = [slots.admit(PROMPTS, [0, 1, 2, 3])]
        for token in (4, 9, 11):
            tokens = torch.tensor([token, token + 1, token, token + 2])
            seen.append(slots.step(tokens, seen[-1]))
    return torch.stack(seen).float()


def test_rows_over_a_shared_prefix_continue_as_if_each_had_its_own(bf16: object) -> None:
    assert shared_tokens(bf16, PROMPTS) == len(COMMON)
    alone, together = continued(bf16, 0), continued(bf16, len(COMMON))
    spread = alone.std()
    assert (alone - together).abs().max() < 0.1 * spread  # rounding of bfloat16
    assert (alone[1:, 0] - alone[1:, 1]).abs().max() > spread  # rows do differ
    assert bf16.config._attn_implementation == "sdpa"  # type: ignore[attr-defined]  # as before


def test_the_shared_part_is_kept_once(bf16: object) -> None:
    slots = Slots(bf16, len(PROMPTS), LENGTH, len(COMMON))
    with torch.inference_mode(), shared(bf16, len(COMMON)):
        slots.admit(PROMPTS, [0, 1, 2, 3])
    assert all(layer.keys.shape[2] == LENGTH - len(COMMON) for layer in slots._layers)
    assert slots._prefix is not None and slots._prefix.keys[0].shape[1] == len(COMMON)


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ([COMMON] * 3, len(COMMON)),
        ([COMMON], 0),  # one row shares nothing
        ([COMMON, [1, *COMMON]], 0),
        ([COMMON[:LEAST], COMMON], LEAST),
        ([COMMON[: LEAST - 1], COMMON], 0),
    ],
)
def test_how_much_is_shared(bf16: object, prompts: list[list[int]], expected: int) -> None:
    assert shared_tokens(bf16, prompts) == expected


def test_in_float32_nothing_is_shared(random_base: Path) -> None:
    assert prefix.shared_tokens(open_model(random_base), [COMMON] * 3) == 0
