"""What spares work in every step changes nothing else."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from dartune.speed import Added, lean_adapters

SIZE = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
IDS = torch.arange(1, 31).view(3, 10)


def adapted(dtype: torch.dtype) -> Any:
    """A Llama with an adapter in float32, as PEFT has it, that does something."""
    torch.manual_seed(0)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=2, target_modules="all-linear")
    model = get_peft_model(LlamaForCausalLM(LlamaConfig(**SIZE)).to(dtype), lora)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def learnt(model: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits and the adapter's gradients."""
    model.zero_grad()
    logits = model(input_ids=IDS).logits
    logits.float().square().mean().backward()
    return logits.detach(), [each.grad for each in model.parameters() if each.requires_grad]


def variants(model: Any) -> set[str]:
    found = {name for name, each in model.named_modules() if getattr(each, "lora_variant", None)}
    assert all(each.lora_variant == {"default": Added} for name, each in model.named_modules() if name in found)
    return found


def test_an_adapter_added_in_one_product_learns_the_same() -> None:
    plain, lean = adapted(torch.float32), adapted(torch.float32)
    with lean_adapters(lean):
        assert len(variants(lean)) == 7
        found = learnt(lean)
    torch.testing.assert_close(found, learnt(plain), rtol=1e-4, atol=1e-6)


def test_under_autocast_it_differs_by_rounding_alone() -> None:
    exact, plain, lean = (adapted(torch.float32) for _ in range(3))
    known = learnt(exact)[0]
    with torch.autocast("cpu", torch.bfloat16):
        usual = learnt(plain)[0]
        with lean_adapters(lean):
            found, gradients = learnt(lean)
    assert (found - known).abs().max() < 1.5 * (usual - known).abs().max()
    for mine, other in zip(gradients, learnt(exact)[1], strict=True):
        assert torch.nn.functional.cosine_similarity(mine.flatten(), other.flatten(), 0) > 0.999


def test_no_float32_copy_of_an_input_is_made() -> None:
    model = adapted(torch.bfloat16)
    inputs = [each for each in model.modules() if hasattr(each, "lora_dropout")]
    seen: list[torch.dtype] = []
    for each in inputs:
        each.lora_dropout["default"].register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=IDS)
        with lean_adapters(model):
            model(input_ids=IDS)
    assert seen == [torch.float32] * 7 + [torch.bfloat16] * 7


def test_without_autocast_as_in_a_generation_it_is_as_ever() -> None:
    plain, lean = adapted(torch.bfloat16), adapted(torch.bfloat16)
    with lean_adapters(lean):
        found = lean(input_ids=IDS).logits
    assert torch.equal(found, plain(input_ids=IDS).logits)


def test_after_the_block_a_layer_is_as_it_was() -> None:
    model = adapted(torch.float32)
    with lean_adapters(model):
        pass
    assert not variants(model)
    assert all(each.cast_input_dtype_enabled for each in model.modules() if hasattr(each, "cast_input_dtype_enabled"))
    assert torch.equal(model.merge_and_unload()(input_ids=IDS).logits.isfinite(), torch.ones(3, 10, 40).bool())


@pytest.mark.parametrize("change", [{"lora_bias": True}, {"use_dora": True}], ids=["a bias", "another variant"])
def test_other_adapters_are_left_alone(change: dict[str, bool]) -> None:
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], **change)
    model = get_peft_model(LlamaForCausalLM(LlamaConfig(**SIZE, attention_bias=True)), lora)
    before = [dict(each.lora_variant) for each in model.modules() if hasattr(each, "lora_variant")]
    with lean_adapters(model):
        assert [each.lora_variant for each in model.modules() if hasattr(each, "lora_variant")] == before
