"""Patches change nothing else, and each is still needed: the unpatched library does what the patch is there for."""

import inspect
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from trl.trainer import utils

from dartune.training import patches, trainers
from dartune.training.fused_lora import fuse_lora
from dartune.training.patches import cache_module_walks, fuse_norms, patch_model, skip_reference_hash
from small_llama import LORA, TASK, corpus, point_to_base, rows_of, trainer, write_llama, write_some_pairs

SIZE = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def adapted() -> Any:
    torch.manual_seed(0)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", lora_dropout=0.5)
    return get_peft_model(LlamaForCausalLM(LlamaConfig(**SIZE)), lora)


class Trainer:
    def __init__(self, model: Any, world_size: int = 1) -> None:
        self.model, self.args = model, SimpleNamespace(world_size=world_size)


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
    with cache_module_walks(Trainer(model)):
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
    with cache_module_walks(Trainer(model)):
        assert all(one is another for one, another in zip(model.parameters(), known, strict=True))
        model.train()
        model(input_ids=torch.ones(1, 4, dtype=torch.long)).logits.sum().backward()
        assert any(each.grad is not None for each in known)
        for _ in range(2):
            assert all(one is another for one, another in zip(model.parameters(), known, strict=True))
        model.zero_grad()
        assert all(each.grad is None for each in known)


def test_several_processes_ask_each_time() -> None:
    model = adapted()
    with cache_module_walks(Trainer(model, world_size=2)):
        assert not {"train", "parameters"} & set(vars(model))


def test_a_reference_s_file_is_found_by_no_other_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.trainer import dpo_trainer

    monkeypatch.setattr(dpo_trainer, "hash_module", dpo_trainer.hash_module)
    skip_reference_hash()
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
            patch_model(base)
        model = get_peft_model(
            base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False)
        )
        for i, weight in enumerate(each for name, each in model.named_parameters() if "lora_" in name):
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator("cuda").manual_seed(i))
        with torch.autocast("cuda", torch.bfloat16), fuse_lora(model):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        logits.float().square().mean().backward()
        found.append((logits, torch.cat([each.grad.flatten() for each in model.parameters() if each.requires_grad])))
    (known, gradient), (logits, other) = found
    assert (logits - known).abs().max() < 0.05 * known.abs().max()
    assert torch.nn.functional.cosine_similarity(gradient, other, 0) > 0.999


# ---- What the unpatched libraries do. Where one of these fails, a patch has become needless: delete both.


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes a trainer as trainer() does, but of TRL's own class on an unpatched model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainers, "skip_reference_hash", lambda: None)
    monkeypatch.setattr(trainers, "patch_model", lambda model: None)
    monkeypatch.setattr(trainers, "plain_reference", lambda model: nullcontext())
    monkeypatch.setattr(trainers, "patched", lambda kind: lambda pair_names, **settings: kind(**settings))
    base = point_to_base(write_llama(Path("llama")))
    rows = rows_of(write_some_pairs(base, corpus(TASK, 12, 3)))
    yield partial(trainer, base, rows)


def test_the_installed_versions_are_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    patches.check_versions.__wrapped__()
    assert not capsys.readouterr().err


def test_other_versions_are_warned_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(patches, "version", lambda name: "1.160.0" if name == "trl" else f"{patches.KNOWN[name]}.9")
    patches.check_versions.__wrapped__()
    assert capsys.readouterr().err.startswith(
        "train: trl 1.160.0 is installed, and training/patches.py knows 1.16; run"
    )


def test_trl_goes_on_where_a_loss_is_not_finite(plain: Any) -> None:
    this = plain(learning_rate=1e38)
    this.train()
    assert math.isnan(this.state.log_history[-1]["train_loss"])


def test_transformers_groups_the_batch_of_one_process_by_length(plain: Any) -> None:
    this = plain()
    this.args.distributed_state = SimpleNamespace(num_processes=2)
    assert this._get_train_sampler().batch_size == 4  # 8 rows make a step


def test_an_epoch_of_transformers_is_no_function_of_its_number(plain: Any) -> None:
    sampler = plain()._get_train_sampler()
    assert list(sampler) != list(sampler)  # in the same epoch: the order is of torch's chance


def test_a_plain_trainer_walks_through_modules_in_each_step(plain: Any) -> None:
    this, calls = plain(), Counter[str]()
    for of, name in ((this, "floating_point_ops"), (this.model, "train"), (this.model, "parameters")):
        monkey = partial(counted, calls, name, getattr(of, name))
        setattr(of, name, monkey)
    this.train()
    assert all(calls[name] >= this.state.global_step > 1 for name in ("floating_point_ops", "train", "parameters"))


def counted(calls: Counter[str], name: str, function: Any, *args: Any, **kwargs: Any) -> Any:
    calls[name] += 1
    return function(*args, **kwargs)


def test_trl_hashes_the_model_to_name_the_reference_s_file(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.trainer import dpo_trainer

    calls = Counter[str]()
    monkeypatch.setattr(dpo_trainer, "hash_module", partial(counted, calls, "hash", utils.hash_module))
    plain()
    assert calls["hash"] == 1


def test_trl_copies_an_adapter_s_dropout_into_its_reference(plain: Any) -> None:
    lora = LORA | {"lora_dropout": 0.5}
    plain(lora=lora).model.save_pretrained("tuned")
    again = plain(lora=lora, start=Path("tuned"))
    assert again.model.peft_config["ref"].lora_dropout == 0.5


def test_trl_s_tile_is_wider_than_a_small_vocabulary() -> None:
    assert re.search(rf"^_CHUNKED_LOGPROB_CHUNK_SIZE = {patches.TILE_WORDS}$", inspect.getsource(utils), re.MULTILINE)


def test_dpo_cannot_do_without_padding_by_itself(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "arguments", partial(trainers.arguments, padding_free=True))
    assert plain().padding_free is False


def test_peft_casts_an_adapter_s_inputs_to_float32_under_autocast() -> None:
    model, types = adapted().bfloat16(), []
    for name, weight in model.named_parameters():
        weight.data = weight.data.float() if "lora_" in name else weight.data
    layer = next(module for name, module in model.named_modules() if name.endswith("lora_A.default"))
    layer.register_forward_pre_hook(lambda module, inputs: types.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=torch.ones(1, 4, dtype=torch.long))
    assert types == [torch.float32]


def test_norms_of_transformers_are_not_torch_s() -> None:
    assert "rms_norm" not in inspect.getsource(LlamaRMSNorm.forward)
