"""A prefix that all rows share is kept once, and rows are continued as if each had its own."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from dartune.models import prefix
from dartune.models.checkpoint import open_model
from dartune.models.host import PLAIN, write_run
from dartune.models.prefix import LEAST, Prefix, shared, shared_tokens
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


def test_scores_in_the_hundreds_are_told_apart() -> None:
    """The keys of Qwen2.5 have biases that all scores share, and that bfloat16 cannot hold together with the rest."""
    torch.manual_seed(0)
    n, n_heads, n_key_heads, width, n_common, n_own = 3, 4, 2, 16, 40, 9
    bias = 30 * torch.randn(n_key_heads, 1, width)
    common = (torch.randn(n_key_heads, n_common, width) + bias).bfloat16()
    own = (torch.randn(n, n_key_heads, n_own, width) + bias).bfloat16()
    query = (torch.randn(n, n_heads, 1, width) + bias.repeat_interleave(2, 0) / 4).bfloat16()
    values, of_own = torch.randn_like(common), torch.randn_like(own)
    mask, module = torch.zeros(n, 1, 1, n_own, dtype=torch.bfloat16), SimpleNamespace(layer_idx=0)
    result, _ = prefix.attend(module, query, own, of_own, mask, Prefix([common], [values]), scaling=width**-0.5)
    keys, all_values = (
        torch.cat([one.expand(n, -1, -1, -1), rest], 2).repeat_interleave(2, 1).double()
        for one, rest in ((common, own), (values, of_own))
    )
    expected = scaled_dot_product_attention(query.double(), keys, all_values)
    assert (query.float() @ keys.float().transpose(2, 3) * width**-0.5).abs().min() > 100
    assert (result.transpose(1, 2) - expected).abs().max() < 0.1 * expected.std()


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
