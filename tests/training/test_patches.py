"""What spares work in every step changes nothing else."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from dartune.training.fused_lora import lean_adapters
from dartune.training.patches import fuse_norms, spare_hash, speed_up, told_once

SIZE = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def adapted() -> Any:
    torch.manual_seed(0)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", lora_dropout=0.5)
    return get_peft_model(LlamaForCausalLM(LlamaConfig(**SIZE)), lora)


class Trainer:
    def __init__(self, model: Any, world_size: int = 1) -> None:
        self.model, self.args = model, SimpleNamespace(world_size=world_size)

    def floating_point_ops(self, inputs: Any) -> int:
        return self.model.num_parameters() * len(inputs)


def modes(model: Any) -> set[bool]:
    return {each.training for each in model.modules()}


def test_modules_are_told_of_a_mode_when_it_changes() -> None:
    model, told = adapted(), []
    for each in model.modules():
        plain = each.train
        each.train = lambda mode=True, plain=plain: told.append(mode) or plain(mode)
    del model.train
    model.base_model.eval()  # as from_pretrained leaves it, below a model that PEFT made
    told.clear()
    with told_once(Trainer(model)):
        model.train()
        assert modes(model) == {True} and told
        told.clear()
        assert model.train() is model
        assert not told
        model.eval()
        assert modes(model) == {False} and told
        model.train()
        assert modes(model) == {True}
    assert "train" not in vars(model)


def test_parameters_and_gradients_are_the_same_as_ever() -> None:
    model = adapted()
    known = list(model.parameters())
    with told_once(Trainer(model)):
        assert all(one is another for one, another in zip(model.parameters(), known, strict=True))
        model.train()
        model(input_ids=torch.ones(1, 4, dtype=torch.long)).logits.sum().backward()
        assert any(each.grad is not None for each in known)
        for _ in range(2):
            assert all(one is another for one, another in zip(model.parameters(), known, strict=True))
        model.zero_grad()
        assert all(each.grad is None for each in known)


def test_flops_are_not_counted_and_afterwards_they_are() -> None:
    trainer = Trainer(LlamaForCausalLM(LlamaConfig(**SIZE)))
    with told_once(trainer):
        assert trainer.floating_point_ops([1]) == 0
    assert trainer.floating_point_ops([1]) > 0


def test_several_processes_ask_each_time() -> None:
    model = adapted()
    with told_once(Trainer(model, world_size=2)):
        assert not {"train", "parameters"} & set(vars(model))


def test_the_file_of_a_reference_s_log_probabilities_is_found_by_no_other_trainer() -> None:
    from trl.trainer import dpo_trainer

    spare_hash()
    model = adapted()
    assert dpo_trainer.hash_module(model) != dpo_trainer.hash_module(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fused_norm_is_the_model_s_but_for_rounding(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm, x = LlamaRMSNorm(32, eps=1e-3), torch.randn(2, 5, 32, dtype=dtype)
    torch.nn.init.normal_(norm.weight)
    norm.to(dtype)
    known = norm(x)
    fuse_norms(norm)
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(x)
    assert found.dtype == known.dtype
    torch.testing.assert_close(found, known)


def test_norms_of_another_formula_stay_as_they_are() -> None:
    norm = GemmaRMSNorm(32)
    fuse_norms(norm)
    assert "forward" not in vars(norm)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="kernels are fused on a GPU")
def test_on_a_gpu_a_model_that_is_sped_up_learns_the_same() -> None:
    ids = torch.randint(40, (4, 50), generator=torch.Generator().manual_seed(0)).cuda()
    found = []
    for is_fast in (False, True):
        torch.manual_seed(0)
        base = LlamaForCausalLM(LlamaConfig(**SIZE, pad_token_id=0)).cuda().bfloat16()
        if is_fast:
            speed_up(base)
        model = get_peft_model(
            base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False)
        )
        for i, weight in enumerate(each for name, each in model.named_parameters() if "lora_" in name):
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator("cuda").manual_seed(i))
        with torch.autocast("cuda", torch.bfloat16), lean_adapters(model):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        logits.float().square().mean().backward()
        found.append((logits, torch.cat([each.grad.flatten() for each in model.parameters() if each.requires_grad])))
    (known, gradient), (logits, other) = found
    assert (logits - known).abs().max() < 0.05 * known.abs().max()
    assert torch.nn.functional.cosine_similarity(gradient, other, 0) > 0.999
