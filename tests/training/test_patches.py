"""Patches change nothing else, and each is still needed: the unpatched library does what the patch is there for."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer import utils

from dartune.training import patches, trainers
from dartune.training.patches import patch_model, plain_adapter_inputs, skip_reference_hash
from small_llama import LORA, TASK, corpus, point_to_base, rows_of, trainer, write_llama, write_some_pairs

SIZE = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def adapted() -> Any:
    torch.manual_seed(0)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", lora_dropout=0.5)
    return get_peft_model(LlamaForCausalLM(LlamaConfig(**SIZE)), lora)


def test_a_reference_s_file_is_found_by_no_other_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.trainer import dpo_trainer

    monkeypatch.setattr(dpo_trainer, "hash_module", dpo_trainer.hash_module)
    skip_reference_hash()
    model = adapted()
    assert dpo_trainer.hash_module(model) != dpo_trainer.hash_module(model)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="kernels are fused on a GPU")
def test_on_a_gpu_a_model_that_is_sped_up_learns_the_same() -> None:
    ids = torch.randint(40, (4, 50), generator=torch.Generator().manual_seed(0)).cuda()
    results = []
    for is_fast in (False, True):
        torch.manual_seed(0)
        base = LlamaForCausalLM(LlamaConfig(**SIZE, pad_token_id=0)).cuda().bfloat16()
        if is_fast:
            patch_model(base)
        model = get_peft_model(
            base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False)
        )
        for i, weight in enumerate(matrix for name, matrix in model.named_parameters() if "lora_" in name):
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator("cuda").manual_seed(i))
        with torch.autocast("cuda", torch.bfloat16), plain_adapter_inputs(model):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        logits.float().square().mean().backward()
        results.append(
            (logits, torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.requires_grad]))
        )
    (known, gradient), (logits, other) = results
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
    monkeypatch.setattr(trainers, "patched", lambda kind: kind)
    base = point_to_base(write_llama(Path("llama")))
    rows = rows_of(write_some_pairs(base, corpus(TASK, 12, 3)))
    yield partial(trainer, base, rows)


def test_on_a_cpu_the_head_scores_labels_only_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.kernels import chunked_logprob

    for module, name in (
        (utils, "_use_triton"),
        (utils, "_CHUNKED_LOGPROB_CHUNK_SIZE"),
        (chunked_logprob, "TOKEN_CHUNK_SIZE"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))  # restored after the test
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZE | {"vocab_size": 9000}))
    utils.add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    ids = torch.randint(9000, (2, 400), generator=torch.Generator().manual_seed(0))
    labels = ids.masked_fill(torch.arange(400) < 100, -100)
    results = []
    for _ in range(2):
        scored = counted_rows(monkeypatch)
        model.zero_grad()
        output = model(input_ids=ids, labels=labels, fused_lm_head=True)
        output.loss.backward()
        gradient = torch.cat([weight.grad.flatten() for weight in model.parameters()])
        results.append((scored, output.loss, output.log_probs, output.entropy, gradient))
        patches.score_labels_only()
    (all_rows, *known), (rows, *other) = results
    assert (all_rows, rows) == ([2 * 399], [2 * 300])  # TRL's own choice makes the patch needless once it is the same
    for left, right in zip(known, other, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def counted_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The positions of each call of TRL's head from now on."""
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction

    rows: list[int] = []

    def apply(hidden: torch.Tensor, *rest: Any) -> Any:
        rows.append(len(hidden))
        return ChunkedLogProbFunction.apply(hidden, *rest)

    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", SimpleNamespace(apply=apply))
    return rows


def test_a_large_vocabulary_alone_is_scored_so(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(patches, "score_labels_only", lambda: calls.append(1))
    for size, n_calls in ((40, 0), (9000, 1 - torch.cuda.is_available())):
        patch_model(LlamaForCausalLM(LlamaConfig(**SIZE | {"vocab_size": size})))
        assert len(calls) == n_calls


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


def test_dpo_cannot_do_without_padding_by_itself(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "arguments", partial(trainers.arguments, padding_free=True))
    assert plain().padding_free is False


def adapter_input_type(block: Callable[[Any], AbstractContextManager[None]]) -> torch.dtype:
    """The type of what an adapter in float32 of a model in bfloat16 reads under autocast."""
    model, types = adapted().bfloat16(), []
    for name, weight in model.named_parameters():
        weight.data = weight.data.float() if "lora_" in name else weight.data
    layer = next(module for name, module in model.named_modules() if name.endswith("lora_A.default"))
    layer.register_forward_pre_hook(lambda module, inputs: types.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16), block(model):
        model(input_ids=torch.ones(1, 4, dtype=torch.long))
    return types[0]


def test_peft_casts_an_adapter_s_inputs_to_float32_under_autocast() -> None:
    assert adapter_input_type(lambda model: nullcontext()) == torch.float32
    assert adapter_input_type(plain_adapter_inputs) == torch.bfloat16


def test_a_model_without_adapters_has_no_inputs_to_cast() -> None:
    with plain_adapter_inputs(LlamaForCausalLM(LlamaConfig(**SIZE))):
        pass
