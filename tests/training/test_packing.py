"""Texts are read in one row, what all begin with once and padding never, and nothing else comes out for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from dartune.training.attention import bf16_attention, torch_attention
from dartune.training.packing import pack

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
    weights = torch.linspace(-1, 1, logits.numel(), device=logits.device).double().view_as(logits)
    return (logits * weights * batch["attention_mask"][..., None]).sum()


def gradients(of: Any, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    of.zero_grad()
    loss(of, batch).backward()
    return [weight.grad for weight in of.parameters() if weight.requires_grad]


def left_padded(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.nn.functional.pad(tensor, (2, 0)) for name, tensor in batch.items()}


def going_on() -> dict[str, torch.Tensor]:
    batch = texts(20, (6, 6, 6))
    batch["input_ids"][0, 20:] = batch["attention_mask"][0, 20:] = 0
    batch["input_ids"][1, 24:] = batch["attention_mask"][1, 24:] = 0
    return batch


BATCHES = {
    "a common beginning": (texts(20), 20 + 9 + 4 + 1),
    "a token in common": (texts(1), 1 + 9 + 4 + 1),
    "nothing in common": (texts(0), 9 + 4 + 1),
    "one text": (texts(20, (5,)), 25),
    "padding before all": (left_padded(texts(20)), 3 * 20 + 9 + 4 + 1),
    "a text that the others go on with": (going_on(), 20 + 0 + 4 + 6),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "n_tokens"), BATCHES.values(), ids=BATCHES)
def test_logits_and_gradients_are_those_of_texts_read_whole(
    kind: str, batch: dict[str, torch.Tensor], n_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, packed = model(kind), model(kind)
    passes = read_by(packed.base_model, monkeypatch)
    pack(packed)
    assert loss(packed, batch).item() == pytest.approx(loss(plain, batch).item(), rel=1e-6)
    assert passes == [(1, n_tokens)]
    for mine, other in zip(gradients(packed, batch), gradients(plain, batch), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-6)


def test_layers_whose_activations_are_computed_again_learn_the_same() -> None:
    batch, learnt = texts(20), []
    for again in (False, True):
        packed = model().train()
        pack(packed)
        if again:
            packed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        learnt.append(gradients(packed, batch))
    assert all(torch.equal(one, another) for one, another in zip(*learnt, strict=True))


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
    base, batch = model(), texts(16)
    passes = read_by(base.base_model, monkeypatch)
    if is_first:
        pack(base)
    packed = adapted(base)
    if not is_first:
        pack(packed)
    mine, other = gradients(packed, batch), gradients(adapted(model()), batch)
    assert passes == [(1, 16 + 9 + 4 + 1)]
    assert len(mine) == 2 * 2 * 7  # A and B of seven layers in two
    for one, another in zip(mine, other, strict=True):
        torch.testing.assert_close(one, another, rtol=1e-3, atol=1e-6)


PLAIN: dict[str, dict[str, Any]] = {
    "a cache is wanted": texts(20) | {"use_cache": True},
    "places are given": texts(20, (5, 5)) | {"position_ids": torch.arange(7, 32)[None]},
}


@pytest.mark.parametrize("batch", PLAIN.values(), ids=PLAIN)
def test_other_batches_are_read_as_ever(batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, packed = model(), model()
    passes = read_by(packed.base_model, monkeypatch)
    pack(packed)
    call = {"use_cache": False} | batch
    output = packed.base_model(**call)
    assert passes == [tuple(batch["input_ids"].shape)]
    assert torch.equal(output.last_hidden_state, plain.base_model(**call).last_hidden_state)
    assert (output.past_key_values is not None) == call["use_cache"]


def test_what_a_model_writes_stays_the_same() -> None:
    plain, packed = model(), model()
    pack(packed)
    prompts = texts(20, (5, 5))
    written = [of.generate(**prompts, max_new_tokens=8, do_sample=False) for of in (plain, packed)]
    assert torch.equal(*written)


def test_a_saved_model_knows_nothing_of_it(tmp_path: Path) -> None:
    plain, packed = model(), model()
    pack(packed)
    for name, of in {"plain": plain, "packed": packed}.items():
        of.save_pretrained(tmp_path / name)
    assert (tmp_path / "packed/config.json").read_text() == (tmp_path / "plain/config.json").read_text()


def windowed() -> Any:
    return MistralForCausalLM(MistralConfig(**SIZE, sliding_window=8))


def dropping() -> Any:
    return LlamaForCausalLM(LlamaConfig(**SIZE, attention_dropout=0.1))


@pytest.mark.parametrize("make", [windowed, dropping])
def test_a_model_with_a_window_or_a_random_attention_keeps_its_own_ways(make: Callable[[], Any]) -> None:
    unpacked = make()
    pack(unpacked)
    assert "forward" not in vars(unpacked.base_model)


@pytest.mark.parametrize(("n_common", "is_shared"), [(2, False), (3, True)])
def test_a_beginning_that_spares_little_stays_in_each_text(
    n_common: int, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, (plain, packed) = texts(n_common, (90, 60, 30)), (model(), model())
    passes = read_by(packed.base_model, monkeypatch)
    pack(packed)
    assert loss(packed, batch).item() == pytest.approx(loss(plain, batch).item(), rel=1e-6)
    assert passes == [(1, 180 + (1 if is_shared else 3) * n_common)]


@pytest.mark.parametrize(("n", "n_keys"), [(1, 1), (5, 5), (40, 90), (0, 7)])
def test_attention_by_products_is_torch_s_up_to_rounding(n: int, n_keys: int) -> None:
    chance = torch.Generator().manual_seed(0)
    inputs = [torch.randn(heads, size, 8, generator=chance) for heads, size in ((6, n), (2, n_keys), (2, n_keys))]
    is_later = torch.ones(n, n_keys, dtype=torch.bool).triu(1 + n_keys - n)
    results = []
    for attention in (torch_attention, bf16_attention):
        tensors = [tensor.clone().requires_grad_() for tensor in inputs]
        output = attention(*tensors, is_later, 0.3)
        results.append([output, *torch.autograd.grad(output.square().sum(), tensors)])
    for one, another in zip(*results, strict=True):
        torch.testing.assert_close(one, another, rtol=1e-4, atol=1e-5)


def test_scores_in_the_hundreds_are_told_apart() -> None:
    """The keys of Qwen2.5 have biases that all scores share, and that bfloat16 cannot hold together with the rest."""
    chance = torch.Generator().manual_seed(0)
    bias = 30 * torch.randn(2, 1, 64, generator=chance)
    query, key, value, gradient = (
        torch.randn(n, m, 64, generator=chance) for n, m in ((6, 20), (2, 90), (2, 90), (6, 20))
    )
    inputs = [part.bfloat16() for part in (query + bias.repeat_interleave(3, 0) / 4, key + bias, value)]
    is_later = torch.ones(20, 90, dtype=torch.bool).triu(71)
    results = []
    for attention, dtype in ((torch_attention, torch.float64), (bf16_attention, torch.bfloat16)):
        tensors = [tensor.to(dtype).requires_grad_() for tensor in inputs]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = attention(*tensors, is_later, 64**-0.5)
        results.append([output, *torch.autograd.grad(output, tensors, gradient.to(dtype))])
    errors = [((another.double() - one).norm() / one.norm()).item() for one, another in zip(*results, strict=True)]
    of_output, of_query, of_key, of_value = errors
    assert max(of_output, of_key, of_value) < 0.02
    assert of_query < 0.3  # what of the keys' bias is left in the sum over them is rounding; torch's own has as much


@pytest.mark.parametrize("batch", [batch for batch, _ in BATCHES.values()], ids=BATCHES)
def test_a_model_in_bf16_on_a_cpu_learns_the_same(batch: dict[str, torch.Tensor]) -> None:
    of, results = model().float(), []
    for is_packed in (False, True):
        if is_packed:
            pack(of)
        with torch.autocast("cpu", torch.bfloat16):
            results.append(torch.cat([gradient.flatten() for gradient in gradients(of, batch)]))
    assert torch.nn.functional.cosine_similarity(*results, 0) > 0.999


LONG = {"long texts": texts(150, (120, 90, 7)), "long texts, nothing in common": texts(0, (120, 90, 7))}
THERE = {name: batch for name, (batch, _) in BATCHES.items()} | LONG


@pytest.mark.skipif(not torch.cuda.is_available(), reason="flash attention needs a GPU")
@pytest.mark.parametrize("batch", THERE.values(), ids=THERE)
def test_on_a_gpu_flash_attention_gives_the_same(batch: dict[str, torch.Tensor]) -> None:
    there, results = {name: tensor.cuda() for name, tensor in batch.items()}, []
    for is_packed in (False, True):
        of = model().cuda().float()
        if is_packed:
            pack(of)
        with torch.autocast("cuda", torch.bfloat16):
            results.append(loss(of, there))
        results[-1].backward()
        results.append(torch.cat([weight.grad.flatten() for weight in of.parameters()]))
    assert results[2].item() == pytest.approx(results[0].item(), rel=0.02, abs=0.02)
    assert torch.nn.functional.cosine_similarity(results[1], results[3], 0) > 0.999
