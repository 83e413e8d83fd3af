"""What cannot fit is refused before weights are opened; whether activations are kept is decided by a real step."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from transformers import LlamaConfig

from dartune.errors import UserError
from dartune.models import host
from dartune.models.checkpoint import open_model
from dartune.training import memory
from dartune.training.callbacks import Release
from dartune.training.memory import fit_activations, longest_batch, n_parameters, refuse_too_large, weight_bytes
from dartune.training.trainers import TrainingInputs
from small_llama import (
    LORA,
    OPTIONS,
    TASK,
    TRAIN,
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
N_8B, N_LINEAR = 8_030_261_248, 6_979_321_856  # weights of Llama-3.1-8B, and of its linear layers but the head


@pytest.fixture
def base(random_base: Path) -> Path:
    return random_base


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


def inputs(base: Path, rows: list[dict[str, Any]] | None = None, method: str = "dpo", **changes: Any) -> TrainingInputs:
    settings = TRAIN | {"method": method, "max_new_tokens": 90, method: OPTIONS[method]} | changes
    return TrainingInputs(TASK, rows or [], base, None, Path("work"), settings, None)


def opened(base: Path, *, on_gpu: bool = False, **changes: Any) -> float:
    return weight_bytes(inputs(base, **changes), on_gpu)


def n_bytes(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def test_weights_and_moments_are_those_of_a_training(base: Path, pairs: Path) -> None:
    this = trainer(base, rows_of(pairs))
    this.train()
    moments = [state[name] for state in this.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert opened(base) == n_bytes(this.model.parameters()) == n_bytes(moments) / 2


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
    # A layer: q and o 4096 x 4096, k and v 4096 x 1024, gate, up and down 4096 x 14336.
    n_linear = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    assert n_parameters(llama_8b) == (N_8B, n_linear) == (N_8B, N_LINEAR)


def test_bits_gpu_and_adapter_decide_the_bytes_of_the_weights(llama_8b: Path) -> None:
    assert opened(llama_8b, on_gpu=True, lora=LORA) == 2 * N_8B
    assert opened(llama_8b, lora=LORA) == opened(llama_8b, on_gpu=True) == opened(llama_8b) == 4 * N_8B
    for load_in, size in (("8bit", 1.0), ("4bit", 4.127 / 8)):  # embeddings, head and norms stay bf16
        few = opened(llama_8b, lora=LORA, on_gpu=True, load_in=load_in)
        assert few == pytest.approx(2 * (N_8B - N_LINEAR) + size * N_LINEAR)


@pytest.mark.parametrize(("kind", "share"), [("ddp", 1), ("zero2", 1), ("zero3", 4), ("fsdp2", 4)])
def test_processes_share_the_weights_where_their_kind_does(base: Path, kind: str, share: int) -> None:
    assert opened(base, launch={"kind": kind, "n_processes": 4, "n_machines": 1}) == opened(base) / share


def test_a_training_that_cannot_fit_is_refused_before_weights_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = point_to_base(write_llama(Path("llama")))
    config = json.loads(Path("llama/config.json").read_text())
    wide = {"hidden_size": 2**18, "intermediate_size": 2**20, "head_dim": 2**16}  # 2 layers of 2 ** 40 weights
    Path("llama/config.json").write_text(json.dumps(config | wide))
    words = r"weights of base for tsp_construct take \d+\.\d+ GiB of memory, .* free; {}take a smaller model or a big"
    with pytest.raises(UserError, match=words.format(r"set train\.lora, ")):
        refuse_too_large(inputs(base))
    with pytest.raises(UserError, match=words.format("")):
        refuse_too_large(inputs(base, lora=LORA))


def test_only_online_training_with_a_penalty_holds_a_reference(base: Path) -> None:
    assert opened(base, method="grpo") == opened(base, method="dpo") == opened(base)  # beta 0; computed before
    assert opened(base, method="rloo") == 2 * opened(base)  # beta 0.05
    assert opened(base, method="rloo", lora=LORA) == opened(base)  # the model without its adapter


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base model of 32 layers, whose activations take most of a step."""
    from dartune.base_model.embedded import new_network
    from dartune.models.checkpoint import open_tokenizer

    monkeypatch.chdir(tmp_path)
    base = point_to_base(write_llama(Path("llama")))
    new_network(open_tokenizer(base), 64, 32, 0).save_pretrained("llama")
    return base


def test_activations_are_kept_where_they_fit_and_else_computed_again(
    deep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(write_some_pairs(deep, corpus(TASK, 12, 3)))
    this = trainer(deep, rows)
    batch, generator = longest_batch(this, inputs(deep, rows)), torch.get_rng_state()
    host.release_memory()  # a step in memory that was freed and is still held would not grow
    step = memory.step_bytes(this, batch, 2**33)
    assert step and step > 2**24
    assert torch.equal(torch.get_rng_state(), generator) and all(w.grad is None for w in this.model.parameters())
    rest = 2 * n_bytes(this.model.parameters()) + memory.LIBRARIES  # the moments, and what libraries keep
    for share, is_again in ((1.3, False), (0.6, True)):
        monkeypatch.setattr(memory, "free_bytes", lambda launch, share=share: share * step + rest)
        fit_activations(this, inputs(deep, rows))
        assert this.args.activation_checkpointing == this.model.is_activation_checkpointing == is_again
        assert ("computed again" if is_again else "kept") in capsys.readouterr().err
    monkeypatch.setattr(memory, "free_bytes", lambda launch: 0.01 * step + rest)
    with pytest.raises(UserError, match=r"does not fit .* lower trainers\.dpo\.per_device_train_batch_size and raise"):
        fit_activations(this, inputs(deep, rows))


def test_the_longest_batch_of_an_online_training_has_answers_of_all_tokens(base: Path, pairs: Path) -> None:
    this, rows = trainer(base, rows_of(pairs)), rows_of(pairs)
    batch = longest_batch(this, inputs(base, rows, "grpo"))
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
        ("0::/job/step\n", {"job/memory.max": "3000", "job/memory.current": "1000"}, 2700),
        ("4:memory:/a\n0::/\n", {}, None),
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
        (file.parent / "memory.stat").write_text("anon 1\ninactive_file 700\n")
    free = host.host_free(tmp_path / "cgroup", tmp_path / "sys")
    assert free == left if left else free > 2**20


def test_few_bits_without_an_adapter_or_without_a_gpu_are_refused(base: Path, pairs: Path) -> None:
    with pytest.raises(UserError, match=r"^train\.load_in is 4bit, for weights that stay as they are; set train\.lora"):
        tune(base, pairs, "tuned", load_in="4bit")
    with pytest.raises(
        UserError, match=r"^train\.load_in is 8bit, which needs a GPU, and there is none; set it to null"
    ):
        tune(base, pairs, "tuned", load_in="8bit", lora=LORA)


def in_pieces() -> tuple[list[bytearray], int]:
    """Blocks between which 290 MB were freed, and the bytes that this process held before that."""
    blocks = [bytearray(100_000) for _ in range(3000)]
    return blocks[::30], psutil.Process().memory_info().rss


@pytest.mark.skipif(not os.confstr("CS_GNU_LIBC_VERSION"), reason="of glibc")
def test_freed_memory_goes_back_before_a_step_is_tried(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(write_some_pairs(deep, corpus(TASK, 12, 3)))
    this, held = trainer(deep, rows), list[int]()

    def step_bytes(*_: object) -> float:
        held.append(psutil.Process().memory_info().rss)
        return 0.0

    monkeypatch.setattr(memory, "step_bytes", step_bytes)
    kept, before = in_pieces()
    fit_activations(this, inputs(deep, rows))
    assert len(kept) == 100 and before - held[0] > 200e6


@pytest.mark.skipif(not os.confstr("CS_GNU_LIBC_VERSION"), reason="of glibc")
@pytest.mark.parametrize(("step", "free_gib", "goes_back"), [(3, 12, False), (3, 3, True), (10, 12, True)])
def test_freed_memory_goes_back_every_ten_steps_and_where_little_is_left(
    monkeypatch: pytest.MonkeyPatch, step: int, free_gib: int, goes_back: bool
) -> None:
    monkeypatch.setattr(host, "group_limits", lambda *_: [])
    kept, before = in_pieces()
    machine = SimpleNamespace(total=16 * 2**30, available=free_gib * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    Release().on_step_end(None, SimpleNamespace(global_step=step), None)
    assert len(kept) == 100 and (before - psutil.Process().memory_info().rss > 200e6) == goes_back
