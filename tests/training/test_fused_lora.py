"""Adapters as training has them come to what PEFT's own come to, with fewer operations."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from dartune.training import fused_lora
from dartune.training.fused_lora import FusedLora, fuse_lora

SIZE = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
IDS = torch.arange(1, 31).view(3, 10)
KINDS = {
    "LoRA": {},
    "ranks and scales of their own": {"rank_pattern": {"k_proj": 3, "up_proj": 1}, "alpha_pattern": {"v_proj": 16}},
    "some layers": {"target_modules": ["q_proj", "v_proj", "down_proj"]},
}


def adapted(dtype: torch.dtype = torch.float32, **more: Any) -> Any:
    """A Llama with biases and an adapter in float32, as PEFT has it, that does something."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SIZE, attention_bias=True)).to(dtype)
    lora = LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "lora_alpha": 2, "target_modules": "all-linear"} | more)
    model = get_peft_model(base, lora)
    for name, weight in model.named_parameters():
        if "lora_B" in name or name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.1)
    return model


def learnt(model: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits and the adapter's gradients."""
    model.zero_grad()
    logits = model(input_ids=IDS).logits
    logits.float().square().mean().backward()
    return logits.detach(), [each.grad for each in model.parameters() if each.requires_grad]


def own_forwards(model: Any) -> list[str]:
    return [name for name, each in model.named_modules() if "forward" in vars(each)]


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Of each operation, how many layers it has."""
    found: list[int] = []
    plain = fused_lora.Group.compute

    def compute(group: Any, *args: Any) -> Any:
        found.append(len(group.layers))
        return plain(group, *args)

    monkeypatch.setattr(fused_lora.Group, "compute", compute)
    yield found


@pytest.mark.parametrize("more", KINDS.values(), ids=KINDS)
def test_it_learns_what_peft_learns(more: dict[str, Any]) -> None:
    plain, lean = adapted(**more), adapted(**more)
    with fuse_lora(lean):
        found = learnt(lean)
    torch.testing.assert_close(found, learnt(plain), rtol=1e-4, atol=1e-6)


def test_layers_of_one_input_are_one_operation(sizes: list[int]) -> None:
    model = adapted()
    with fuse_lora(model):
        learnt(model)
        learnt(model)
    assert sizes == [3, 1, 2, 1] * 2  # queries, keys, values; their result; gate, up; down


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_gradients_are_those_of_the_formula(rate: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 5, dtype=torch.double, requires_grad=True)
    w, bias, others = torch.randn(4, 5).double(), torch.randn(4).double(), torch.randn(3, 5).double()
    fixed = [(w, bias, 0.5), (others, None, 3.0)]
    shapes = ((2, 5), (3, 5), (4, 2), (3, 3))
    adapters = [torch.randn(*shape, dtype=torch.double, requires_grad=True) for shape in shapes]

    def results(*given: torch.Tensor) -> Any:
        torch.manual_seed(1)  # the same dropout
        return FusedLora.apply(given[0], rate, fixed, *given[1:])

    assert torch.autograd.gradcheck(results, (x, *adapters))
    if not rate:
        a, other_a, b, other_b = adapters
        known = x @ w.t() + bias + 0.5 * x @ a.t() @ b.t(), x @ others.t() + 3 * x @ other_a.t() @ other_b.t()
        torch.testing.assert_close(results(x, *adapters), known)


def test_each_layer_s_adapter_has_dropout_of_its_own_and_is_scaled_for_it() -> None:
    torch.manual_seed(0)
    x, none, one = torch.rand(50, 40) + 1, torch.zeros(40, 40), torch.eye(40)
    found = FusedLora.apply(x, 0.25, [(none, None, 2.0)] * 2, one, one, one, one)
    for each in found:
        kept = each != 0
        torch.testing.assert_close(each[kept], 2 * x[kept] / 0.75)
        assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)  # of 2,000: three deviations
    assert not torch.equal(found[0] != 0, found[1] != 0)


def test_dropout_is_of_training_alone() -> None:
    plain, lean = adapted(lora_dropout=0.5).eval(), adapted(lora_dropout=0.5).eval()
    with fuse_lora(lean):
        torch.testing.assert_close(learnt(lean), learnt(plain), rtol=1e-4, atol=1e-6)
        assert not torch.equal(lean.train()(input_ids=IDS).logits, lean(input_ids=IDS).logits)


def test_under_autocast_it_differs_by_rounding_alone() -> None:
    exact, plain, lean = (adapted() for _ in range(3))
    known = learnt(exact)[0]
    with torch.autocast("cpu", torch.bfloat16):
        usual = learnt(plain)[0]
        with fuse_lora(lean):
            found, gradients = learnt(lean)
    assert (found - known).abs().max() < 1.5 * (usual - known).abs().max()
    for mine, other in zip(gradients, learnt(exact)[1], strict=True):
        assert torch.nn.functional.cosine_similarity(mine.flatten(), other.flatten(), 0) > 0.999


def test_without_autocast_as_in_a_generation_types_are_peft_s(sizes: list[int]) -> None:
    plain, lean = adapted(torch.bfloat16), adapted(torch.bfloat16)
    with fuse_lora(lean):
        found = lean(input_ids=IDS).logits
    assert torch.equal(found, plain(input_ids=IDS).logits)
    assert not sizes


def test_a_disabled_adapter_is_the_base_model_exactly() -> None:
    model = adapted()
    with fuse_lora(model), model.disable_adapter():
        found = model(input_ids=IDS).logits
    assert torch.equal(found, model.unload()(input_ids=IDS).logits)


def test_of_two_adapters_the_one_that_is_on_is_read() -> None:
    plain, lean = adapted(), adapted()
    for each in (plain, lean):
        torch.manual_seed(3)
        each.add_adapter("ref", LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
        each.set_adapter("ref")
    with fuse_lora(lean):
        found = learnt(lean)
        lean.set_adapter("default")
        assert not torch.equal(lean(input_ids=IDS).logits, found[0])
    torch.testing.assert_close(found, learnt(plain), rtol=1e-4, atol=1e-6)


def test_layers_whose_activations_are_computed_again_learn_the_same() -> None:
    once, again = adapted(lora_dropout=0.2).train(), adapted(lora_dropout=0.2).train()
    again.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    found = []
    for model in (once, again):
        with fuse_lora(model):
            torch.manual_seed(4)
            found.append(learnt(model))
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_a_layer_with_another_input_than_its_neighbours_reads_that() -> None:
    model = adapted()
    attention = model.base_model.model.model.layers[0].self_attn
    x, y = torch.randn(2, 5, 32), torch.randn(2, 5, 32)
    known = [attention.q_proj(x), attention.k_proj(y), attention.v_proj(x), attention.q_proj(y)]
    with fuse_lora(model):
        found = [attention.q_proj(x), attention.k_proj(y), attention.v_proj(x), attention.q_proj(y)]
    torch.testing.assert_close(found, known)


def test_after_the_block_layers_are_as_they_were() -> None:
    model = adapted()
    before = own_forwards(model)
    with fuse_lora(model):
        assert len(own_forwards(model)) == len(before) + 7
    assert own_forwards(model) == before


def of_gpt2() -> Any:
    base = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=32, n_layer=1, n_head=4))  # its weights lie the other way
    return get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["c_attn"], fan_in_fan_out=True))


OTHERS = {
    "an adapter with a bias": lambda: adapted(lora_bias=True),
    "another variant": lambda: adapted(use_dora=True),
    "another kind of layer": of_gpt2,
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_others_are_left_alone(make: Any) -> None:
    model = make()
    before = own_forwards(model)
    with fuse_lora(model):
        assert own_forwards(model) == before
