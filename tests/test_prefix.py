"""The prefix that all texts of a batch have in common is read once, and nothing else comes out for it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from dartune import trainers
from dartune.prefix import SHORTEST, share_prefix

# Norms and rotations are computed in float32, also in models of float64: rounding is 1e-7.
SIZE = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SIZE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0}
KINDS = {"llama": (LlamaForCausalLM, LlamaConfig), "qwen2": (Qwen2ForCausalLM, Qwen2Config)}


def model(kind: str = "llama") -> Any:
    torch.manual_seed(0)
    of, config = KINDS[kind]
    return of(config(**SIZE)).double()


def texts(n_common: int, lengths: tuple[int, ...] = (9, 4, 1)) -> dict[str, torch.Tensor]:
    """Texts that begin with the same tokens; each goes on with its own, then padding."""
    chance = torch.Generator().manual_seed(1)
    start = torch.randint(1, 40, (n_common,), generator=chance)
    ids = torch.zeros(len(lengths), n_common + max(lengths), dtype=torch.long)
    for i, n in enumerate(lengths):
        ids[i, :n_common] = start
        ids[i, n_common : n_common + n] = torch.randint(1, 40, (n,), generator=chance)
        ids[i, n_common] = i + 1  # here they part
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def read_by(backbone: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(texts, tokens) of each pass through the layers, as they come."""
    passes: list[tuple[int, int]] = []
    plain = backbone.forward

    def noted(*args: Any, **kwargs: Any) -> Any:
        passes.append(tuple(kwargs["input_ids"].shape))
        return plain(*args, **kwargs)

    monkeypatch.setattr(backbone, "forward", noted)
    return passes


def loss(of: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Something that depends on the logits of each token but the padding's, called as trainers call it."""
    logits = of(**batch, use_cache=False).logits
    weights = torch.linspace(-1, 1, logits.numel()).double().view_as(logits)
    return (logits * weights * batch["attention_mask"][..., None]).sum()


def gradients(of: Any, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    of.zero_grad()
    loss(of, batch).backward()
    return [weight.grad for weight in of.parameters() if weight.requires_grad]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_are_those_of_texts_read_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, sharing, batch = model(kind), model(kind), texts(SHORTEST + 4)
    passes = read_by(sharing.base_model, monkeypatch)
    share_prefix(sharing)
    assert loss(sharing, batch).item() == pytest.approx(loss(plain, batch).item(), rel=1e-6)
    assert passes == [(1, SHORTEST + 4), (3, 9)]
    for mine, other in zip(gradients(sharing, batch), gradients(plain, batch), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-6)


def adapted(base: Any) -> Any:
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False)
    wrapped = get_peft_model(base, lora).double()
    torch.manual_seed(2)
    for name, weight in wrapped.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return wrapped


@pytest.mark.parametrize("is_first", [True, False], ids=["before it is made", "after"])
def test_an_adapter_learns_the_same(is_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    base, batch = model(), texts(SHORTEST)
    passes = read_by(base.base_model, monkeypatch)
    if is_first:
        share_prefix(base)
    sharing = adapted(base)
    if not is_first:
        share_prefix(sharing)
    mine, other = gradients(sharing, batch), gradients(adapted(model()), batch)
    assert passes == [(1, SHORTEST), (3, 9)]
    assert len(mine) == 2 * 2 * 7  # A and B of seven layers in two
    for one, another in zip(mine, other, strict=True):
        torch.testing.assert_close(one, another, rtol=1e-3, atol=1e-6)


def left_padded(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.nn.functional.pad(each, (2, 0)) for name, each in batch.items()}


PLAIN: dict[str, dict[str, Any]] = {
    "a short prefix": texts(SHORTEST - 1),
    "one text": texts(SHORTEST + 4, (5,)),
    "padding before all": left_padded(texts(SHORTEST + 4)),
    "a cache is wanted": texts(SHORTEST + 4) | {"use_cache": True},
    "places are given": texts(SHORTEST + 4, (5, 5)) | {"position_ids": torch.arange(7, 7 + SHORTEST + 9)[None]},
}


@pytest.mark.parametrize("batch", PLAIN.values(), ids=PLAIN)
def test_other_batches_are_read_as_ever(batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, sharing = model(), model()
    passes = read_by(sharing.base_model, monkeypatch)
    share_prefix(sharing)
    call = {"use_cache": False} | batch
    found = sharing.base_model(**call)
    assert passes == [tuple(batch["input_ids"].shape)]
    assert torch.equal(found.last_hidden_state, plain.base_model(**call).last_hidden_state)
    assert (found.past_key_values is not None) == call["use_cache"]


def test_a_text_that_is_the_start_of_the_others_keeps_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = texts(SHORTEST + 5, (1, 1))
    batch["input_ids"][1] = batch["input_ids"][0]  # the same text twice
    plain, sharing = model(), model()
    passes = read_by(sharing.base_model, monkeypatch)
    share_prefix(sharing)
    torch.testing.assert_close(loss(sharing, batch), loss(plain, batch))
    assert passes == [(1, SHORTEST + 5), (2, 1)]


def test_what_a_model_writes_stays_the_same() -> None:
    plain, sharing = model(), model()
    share_prefix(sharing)
    prompts = texts(SHORTEST + 4, (5, 5))
    written = [each.generate(**prompts, max_new_tokens=8, do_sample=False) for each in (plain, sharing)]
    assert torch.equal(*written)


def test_a_model_with_a_window_keeps_its_own_ways() -> None:
    windowed = MistralForCausalLM(MistralConfig(**SIZE, sliding_window=8))
    share_prefix(windowed)
    assert "forward" not in vars(windowed.base_model)


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_trainers_share_it_unless_activations_are_computed_again(is_checkpointed: bool) -> None:
    trained = model()
    trainers.speed_up(trained, SimpleNamespace(activation_checkpointing=is_checkpointed))
    assert ("forward" in vars(trained.base_model)) == (not is_checkpointed)
