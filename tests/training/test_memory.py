"""What cannot fit is refused before weights are opened; whether activations are kept is decided by a real step."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, TrainerCallback

from dartune.errors import UserError
from dartune.models.checkpoint import open_model
from dartune.training import memory
from dartune.training.memory import fit_activations, longest_batch, n_parameters, refuse_too_large, state_bytes
from dartune.training.trainers import TrainingInputs
from small_llama import (
    LORA,
    OPTIONS,
    TASK,
    corpus,
    point_to_base,
    rows_of,
    trainer,
    tune,
    weights,
    write_llama,
    write_some_pairs,
)

pytestmark = pytest.mark.usefixtures("trl_imported")
BIG = {"r": 64, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear"}
N_8B = 8_030_261_248
N_BIG = 167_772_160  # weights of the adapter BIG on it


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return point_to_base(write_llama(Path("llama")))


@pytest.fixture
def pairs(base: Path) -> Path:
    return write_some_pairs(base, corpus(TASK, 12, 3))


@pytest.fixture
def llama_8b(tmp_path: Path) -> Path:
    """Llama-3.1-8B's config without its weights."""
    LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
    ).save_pretrained(tmp_path / "8b")
    return tmp_path / "8b"


def inputs(base: Path, rows: list[dict[str, Any]] | None = None, **changes: Any) -> TrainingInputs:
    decoding = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 90}
    settings = {"lora": None, "load_in": None, "max_length": 1024, "patience": None} | changes
    work = Path("work")
    return TrainingInputs(TASK, rows or [], base, None, work, common={}, decoding=decoding, referee=None, **settings)


def states(base: Path, *, on_gpu: bool = False, has_reference: bool = False, launch: Any = None, **changes: Any) -> Any:
    return state_bytes(inputs(base, **changes), has_reference, launch, on_gpu)


class Gradients(TrainerCallback):  # type: ignore[misc]
    """Counts the bytes of the gradients of a step."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.n_bytes = n_bytes(weight.grad for weight in model.parameters() if weight.grad is not None)


def n_bytes(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "LoRA"])
def test_weights_gradients_and_moments_are_those_of_a_training(
    base: Path, pairs: Path, lora: dict[str, Any] | None
) -> None:
    this, gradients = trainer(base, rows_of(pairs), lora=lora), Gradients()
    this.add_callback(gradients)
    this.train()
    moments = [state[name] for state in this.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    parts = states(base, lora=lora)
    assert parts["weights"] == n_bytes(this.model.parameters())
    assert (parts["gradients"], parts["optimiser"]) == (gradients.n_bytes, n_bytes(moments))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_moments_have_the_type_of_the_parameter(dtype: torch.dtype) -> None:
    weight = torch.nn.Parameter(torch.ones(4, dtype=dtype))
    optimiser = torch.optim.AdamW([weight], fused=True)
    weight.sum().backward()
    optimiser.step()
    assert {optimiser.state[weight][name].dtype for name in ("exp_avg", "exp_avg_sq")} == {dtype}
    assert weight.grad is not None and weight.grad.dtype == dtype


def test_an_adapter_on_a_bf16_model_is_float32(base: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(open_model(base).bfloat16(), LoraConfig(task_type="CAUSAL_LM", **LORA))
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}


def test_an_8b_model_is_counted_without_its_weights(llama_8b: Path) -> None:
    n_all, n_linear, n_trained = n_parameters(inputs(llama_8b, lora=BIG))
    # A layer: q and o 4096 x 4096, k and v 4096 x 1024, gate, up and down 4096 x 14336; r = 64 of each in and out.
    assert n_all == N_8B
    assert n_linear == 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336) == 6_979_321_856
    assert n_trained == 32 * 64 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336)) == N_BIG


def test_bits_gpu_and_adapter_decide_the_bytes_of_weights_and_states(llama_8b: Path) -> None:
    on_gpu, on_cpu = states(llama_8b, lora=BIG, on_gpu=True), states(llama_8b, lora=BIG)
    assert on_gpu["weights"] == 2 * N_8B + 4 * N_BIG
    assert on_cpu["weights"] == 4 * N_8B + 4 * N_BIG
    assert (on_gpu["gradients"], on_gpu["optimiser"]) == (4 * N_BIG, 8 * N_BIG)
    kept = 2 * (N_8B - 6_979_321_856)  # embeddings, head and norms stay bf16
    for load_in, size in (("8bit", 1.0), ("4bit", 4.127 / 8)):
        few = states(llama_8b, lora=BIG, on_gpu=True, load_in=load_in)
        assert few["weights"] == kept + 6_979_321_856 * size + 2 * N_BIG
        assert (few["gradients"], few["optimiser"]) == (2 * N_BIG, 4 * N_BIG)


def test_all_weights_are_trained_in_float32_with_16_bytes_each(llama_8b: Path) -> None:
    assert sum(states(llama_8b, on_gpu=True).values()) == 16 * N_8B
    assert states(llama_8b, on_gpu=True, has_reference=True)["reference"] == 4 * N_8B


def test_several_processes_share_what_their_kind_shares(base: Path) -> None:
    alone = states(base)
    kinds = {
        kind: states(base, launch={"kind": kind, "n_processes": 4, "n_machines": 1})
        for kind in ("ddp", "zero2", "zero3", "fsdp2")
    }
    assert kinds["ddp"] == alone | {"gradients": 2 * alone["gradients"]}
    shards = {name: alone[name] / 4 for name in ("gradients", "optimiser")}
    assert kinds["zero2"] == alone | shards
    assert kinds["zero3"] == kinds["fsdp2"] == alone | shards | {"weights": alone["weights"] / 4}


def test_a_training_that_cannot_fit_is_refused_before_weights_are_opened(base: Path) -> None:
    config = json.loads(Path("llama/config.json").read_text())
    wide = {"hidden_size": 2**18, "intermediate_size": 2**20, "head_dim": 2**16}  # 2 layers of 2 ** 40 weights
    Path("llama/config.json").write_text(json.dumps(config | wide))
    words = r"needs \d+\.\d+ GiB of memory before its first step \(weights .*\); .* free; {} or a bigger machine$"
    with pytest.raises(UserError, match=words.format(r'set train\.lora: \{"r": 16, .*\}, take a smaller model')):
        refuse_too_large(inputs(base), "dpo", OPTIONS["dpo"], None)
    with pytest.raises(UserError, match=words.format("take a smaller model")):
        refuse_too_large(inputs(base, lora=LORA), "dpo", OPTIONS["dpo"], None)


def test_only_online_training_with_a_penalty_holds_a_reference(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = sum(states(base).values())  # just enough without
    monkeypatch.setattr(memory, "free_bytes", lambda launch: free)
    refuse_too_large(inputs(base), "grpo", OPTIONS["grpo"], None)  # beta 0
    refuse_too_large(inputs(base), "dpo", OPTIONS["dpo"], None)  # its log-probabilities are computed before
    with pytest.raises(UserError, match="reference 0"):
        refuse_too_large(inputs(base), "rloo", OPTIONS["rloo"], None)  # beta 0.05


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base model of 16 layers, whose activations take most of a step."""
    from dartune.base_model.base import new_network
    from dartune.models.checkpoint import open_tokenizer

    monkeypatch.chdir(tmp_path)
    base = point_to_base(write_llama(Path("llama")))
    new_network(open_tokenizer(base), 64, 16, 0).save_pretrained("llama")
    return base


def test_activations_are_kept_where_they_fit_and_else_computed_again(
    deep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(write_some_pairs(deep, corpus(TASK, 12, 3)))
    this, options = trainer(deep, rows), OPTIONS["dpo"]
    batch, generator = longest_batch(this, inputs(deep, rows), "dpo", options), torch.get_rng_state()
    kept = memory.step_bytes(this, batch, 2**33)
    assert kept and kept > 2**24
    assert torch.equal(torch.get_rng_state(), generator) and all(w.grad is None for w in this.model.parameters())
    rest = 2 * n_bytes(this.model.parameters()) + memory.LIBRARIES  # the moments, and what libraries keep
    for share, is_again in ((1.3, False), (0.6, True)):
        monkeypatch.setattr(memory, "free_bytes", lambda launch, share=share: share * kept + rest)
        fit_activations(this, inputs(deep, rows), "dpo", options, None)
        assert this.args.activation_checkpointing == this.model.is_activation_checkpointing == is_again
        assert ("computed again" if is_again else "kept") in capsys.readouterr().err
    monkeypatch.setattr(memory, "free_bytes", lambda launch: 0.01 * kept + rest)
    with pytest.raises(UserError, match=r"does not fit .* lower trainers\.dpo\.per_device_train_batch_size and raise"):
        fit_activations(this, inputs(deep, rows), "dpo", options, None)


def test_the_longest_batch_of_an_online_training_has_answers_of_all_tokens(base: Path, pairs: Path) -> None:
    this, rows = trainer(base, rows_of(pairs)), rows_of(pairs)
    batch = longest_batch(this, inputs(base, rows), "grpo", OPTIONS["grpo"])
    n_prompt = rows[0]["prompt_tokens"]
    assert batch["input_ids"].shape == (4, n_prompt + 90)
    assert (batch["labels"] >= 0).sum() == 4 * 90


def test_computing_activations_again_comes_to_the_same_model(
    base: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, limits = memory.step_bytes, []

    def too_large_at_first(*arguments: Any) -> float | None:
        limits.append(real(*arguments))
        return None if len(limits) == 1 else limits[-1]

    known = weights(tune(base, pairs, "kept"))
    monkeypatch.setattr(memory, "step_bytes", too_large_at_first)
    assert weights(tune(base, pairs, "again")) == known
    assert "with activations computed again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("group", "files", "left"),
    [
        ("0::/job\n", {"job/memory.max": "3000", "job/memory.current": "1000"}, 2700),  # 700 in inactive files
        ("0::/job\n", {"job/memory.max": "max", "job/memory.current": "1000"}, None),
        ("0::/job\n", {"memory.max": "5000", "memory.current": "1000"}, 4700),  # the container's own root
        (
            "4:memory:/a/b\n0::/\n",
            {"memory/a/memory.limit_in_bytes": "3000", "memory/a/memory.usage_in_bytes": "1"},
            3699,
        ),
        ("3:cpu:/\n", {}, None),
    ],
)
def test_a_control_groups_limit_counts_where_it_is_lower(
    tmp_path: Path, group: str, files: dict[str, str], left: int | None
) -> None:
    (tmp_path / "cgroup").write_text(group)
    for name, text in files.items():
        file = tmp_path / "sys" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
        (file.parent / "memory.stat").write_text("anon 1\ninactive_file 700\ntotal_inactive_file 700\n")
    free = memory.host_free(tmp_path / "cgroup", tmp_path / "sys")
    assert free == left if left else free > 2**20


def test_few_bits_without_an_adapter_or_without_a_gpu_are_refused(base: Path, pairs: Path) -> None:
    with pytest.raises(UserError, match=r"^train\.load_in is 4bit: such weights stay as they are; set train\.lora"):
        tune(base, pairs, "tuned", load_in="4bit")
    with pytest.raises(
        UserError, match=r"^train\.load_in is 8bit, which needs a GPU, and there is none; set it to null"
    ):
        tune(base, pairs, "tuned", load_in="8bit", lora=LORA)
