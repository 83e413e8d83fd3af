"""What a training needs is estimated from what it really allocates, and too much is refused with what would fit."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, TrainerCallback

from dartune.errors import UserError
from dartune.models.checkpoint import open_model
from dartune.training import memory, train
from dartune.training.fused_lora import lean_adapters
from dartune.training.memory import CAST, Plan, advice, fastest, fitted, needed, network, planned, total
from dartune.training.packing import n_filling, pack
from dartune.training.train import new_trainer
from dartune.training.trainers import TrainingInputs
from small_llama import (
    LORA,
    OPTIONS,
    TASK,
    UNWATCHED,
    corpus,
    point_to_base,
    rows_of,
    trainer,
    tune,
    weights,
    write_llama,
    write_some_pairs,
)

ROOT = Path(__file__).parents[2]
BIG = {"r": 64, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear"}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return point_to_base(write_llama(Path("llama")))


@pytest.fixture
def pairs(base: Path) -> Path:
    return write_some_pairs(base, corpus(TASK, 12, 3))


@pytest.fixture
def llama_8b(tmp_path: Path) -> Path:
    """Llama-3.1-8B's config without its weights: 8,030,261,248 parameters."""
    LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
    ).save_pretrained(tmp_path / "8b")
    return tmp_path / "8b"


def material(base: Path, lengths: list[int], **changes: Any) -> TrainingInputs:
    """Pairs of prompts of ten tokens and chosen programs of the rest."""
    rest = {"prompt": "Write.", "prompt_tokens": 10, "rejected_tokens": 1, "is_held_out": False}
    rows = [{"chosen_tokens": n - 10, **rest} for n in lengths]
    decoding = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 90}
    settings = {"lora": None, "load_in": None, "max_length": 1024, "patience": None} | changes
    return TrainingInputs(TASK, rows, base, None, Path("work"), common={}, decoding=decoding, referee=None, **settings)


def plan(base: Path, lengths: list[int], method: str = "dpo", **changes: Any) -> Plan:
    lora = changes.pop("lora", None)
    known = planned(material(base, lengths, lora=lora), method, OPTIONS[method], UNWATCHED, None)  # type: ignore[arg-type]
    return replace(known, **changes)


class Gradients(TrainerCallback):  # type: ignore[misc]
    """Counts the bytes of the gradients of a step."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.n_bytes = n_bytes(each.grad for each in model.parameters() if each.grad is not None)


def n_bytes(tensors: Any) -> int:
    return sum(each.numel() * each.element_size() for each in tensors)


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "LoRA"])
def test_weights_gradients_and_moments_are_those_that_a_training_holds(
    base: Path, pairs: Path, lora: dict[str, Any] | None
) -> None:
    this, gradients = trainer(base, rows_of(pairs), lora=lora), Gradients()
    this.add_callback(gradients)
    this.train()
    moments = [state[name] for state in this.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    need = needed(plan(base, [100], lora=lora))
    assert need["weights"] == n_bytes(this.model.parameters())
    assert need["gradients"] == gradients.n_bytes
    assert need["optimiser"] == n_bytes(moments)


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
    assert {each.dtype for each in model.parameters() if each.requires_grad} == {torch.float32}


def test_activations_are_what_autograd_keeps_of_the_layers(base: Path) -> None:
    found = []
    for n_layers in (1, 2):
        model = open_model(base)
        model.model.layers = model.model.layers[:n_layers]
        model.config.num_hidden_layers = n_layers
        pack(model)
        found.append(kept(model.model, *pairs_of_one_prompt(10, 90, model.config.vocab_size)))
    there = plan(base, [100], n_rows=4, own=2 * 90)
    estimated = memory.activations(there)  # two layers, and one for the backward pass
    assert found[1] - found[0] == pytest.approx(estimated / 3, rel=0.02)


def pairs_of_one_prompt(n_prompt: int, n_answer: int, n_words: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Four pairs of answers that part at once, and their mask."""
    ids = torch.arange(8 * (n_prompt + n_answer)).view(-1, 8).T % (n_words - 1) + 1
    ids[:, :n_prompt] = 1
    return ids, torch.ones_like(ids)


def kept(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> int:
    """Bytes that autograd keeps of a forward pass, parameters apart."""
    own, seen = {each.untyped_storage().data_ptr() for each in model.parameters()}, {}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        alive.append(tensor)  # or its address would be used again
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(seen.values())


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "LoRA"])
def test_autocast_keeps_no_more_than_is_estimated_without_checkpoints(base: Path, lora: dict[str, Any] | None) -> None:
    from peft import LoraConfig, get_peft_model

    model = open_model(base).bfloat16() if lora else open_model(base).float()
    pack(model)
    if lora:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora | {"lora_dropout": 0.05})).train()
    ids, mask = pairs_of_one_prompt(10, 90, model.config.vocab_size)
    layers = model.base_model.model.model if lora else model.model
    with torch.autocast("cpu", torch.bfloat16), lean_adapters(model):
        found = kept(layers, ids, mask)
    there = plan(base, [100], n_rows=4, own=2 * 90, lora=lora, on_gpu=True)
    estimated = memory.activations(replace(there, is_checkpointed=False)) * 2 / 3  # without the backward pass's layer
    assert estimated / CAST < found < estimated
    assert memory.activations(replace(there, is_checkpointed=True)) < found


def test_what_fills_a_row_up_on_a_gpu_is_counted(llama_8b: Path) -> None:
    there = plan(llama_8b, [2048], own=20001, lora=BIG)
    n = memory.n_tokens(there)
    assert n == there.prompt + there.n_rows * there.own
    assert memory.n_tokens(replace(there, on_gpu=True)) == n + n_filling(n, "cuda") > n


def test_a_gpu_with_room_keeps_activations_and_one_without_computes_them_again(llama_8b: Path) -> None:
    there = plan(llama_8b, [2048], lora=BIG, on_gpu=True, is_checkpointed=True)
    room = total(needed(replace(there, is_checkpointed=False)))
    assert not fastest(there, room).is_checkpointed
    assert fastest(there, room - 1) == there
    shared = replace(there, kind="fsdp2", n_processes=4)
    assert fastest(shared, 10 * room) == shared  # its processes must do the same


def test_a_training_that_computes_its_activations_again_comes_to_the_same_model(
    base: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def noted(*arguments: Any) -> Any:
        made.append(new_trainer(*arguments))
        return made[-1]

    monkeypatch.setattr(train, "new_trainer", noted)
    known = weights(tune(base, pairs, "kept"))
    monkeypatch.setattr(train, "fitted", lambda *_: True)
    assert weights(tune(base, pairs, "again")) == known
    assert [each.args.activation_checkpointing for each in made] == [False, True]
    assert [each.model.is_activation_checkpointing for each in made] == [False, True]


def test_an_8b_model_is_counted_without_its_weights(llama_8b: Path) -> None:
    found = network(llama_8b, BIG)  # type: ignore[arg-type]
    # A layer: q and o 4096 x 4096, k and v 4096 x 1024, gate, up and down 4096 x 14336; r = 64 of each in and out.
    assert found.n_all == 8_030_261_248
    assert found.n_linear == 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336) == 6_979_321_856
    assert found.n_trained == 32 * 64 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336)) == 167_772_160


def test_bits_gpu_and_adapter_decide_the_bytes_of_weights_and_states(llama_8b: Path) -> None:
    there = plan(llama_8b, [2048], lora=BIG, on_gpu=True)
    here, n = replace(there, on_gpu=False), 167_772_160
    assert needed(there)["weights"] == 2 * 8_030_261_248 + 4 * n
    assert needed(here)["weights"] == 4 * 8_030_261_248 + 4 * n
    assert (needed(there)["gradients"], needed(there)["optimiser"]) == (4 * n, 8 * n)
    kept = 2 * (8_030_261_248 - 6_979_321_856)  # embeddings, head and norms stay bf16
    for load_in, size in (("8bit", 1.0), ("4bit", 4.127 / 8)):
        few = needed(replace(there, load_in=load_in))  # type: ignore[arg-type]
        assert few["weights"] == kept + 6_979_321_856 * size + 2 * n
        assert (few["gradients"], few["optimiser"]) == (2 * n, 4 * n)


def test_all_weights_are_trained_in_float32_with_16_bytes_each(llama_8b: Path) -> None:
    need = needed(plan(llama_8b, [2048], on_gpu=True))
    assert need["weights"] + need["gradients"] + need["optimiser"] == 16 * 8_030_261_248
    assert need["reference"] == 0  # dpo computes its log-probabilities before


def test_an_online_training_of_all_weights_keeps_a_reference_only_for_its_penalty(base: Path) -> None:
    grpo, rloo = (needed(plan(base, [100], method)) for method in ("grpo", "rloo"))  # beta 0.0 and 0.05
    assert (grpo["reference"], rloo["reference"]) == (0, rloo["weights"])
    assert needed(plan(base, [100], "rloo", lora=LORA))["reference"] == 0  # the model without its adapter


def test_what_is_written_takes_keys_and_values_of_all_layers(base: Path) -> None:
    # Two layers of 64 numbers for keys and as many for values, 4 bytes each, 4 answers of 10 + 90 tokens.
    written, quiet = (memory.writing(plan(base, [100], method)) for method in ("grpo", "dpo"))
    assert written > 4 * 100 * 2 * 64 * 2 * 4 and quiet == 0
    longer = memory.writing(plan(base, [100], "grpo", written_length=200))
    assert longer - written == 4 * 100 * 2 * 64 * 2 * 4


def test_several_processes_share_what_their_kind_shares(base: Path) -> None:
    alone = needed(plan(base, [100]))
    kinds = {kind: needed(plan(base, [100], kind=kind, n_processes=4)) for kind in ("ddp", "zero2", "zero3", "fsdp2")}
    assert kinds["ddp"] == alone | {"gradients": 2 * alone["gradients"]}
    states = {name: alone[name] / 4 for name in ("gradients", "optimiser")}
    assert kinds["zero2"] == alone | states
    assert kinds["zero3"] == kinds["fsdp2"] == alone | states | {"weights": alone["weights"] / 4}


@pytest.fixture
def asked(base: Path) -> Iterator[Any]:
    """What is advised where a given share of what is needed is free."""
    what = material(base, [*range(110, 290, 10), 400, 1000])
    options = OPTIONS["dpo"] | {"per_device_train_batch_size": 12, "gradient_accumulation_steps": 2}
    start = planned(what, "dpo", options, UNWATCHED, None)  # type: ignore[arg-type]

    def ask(free: float) -> str:
        return advice(start, what, options, free)

    ask.plan = start  # type: ignore[attr-defined]
    yield ask


def test_the_largest_batch_that_fits_is_advised_with_the_same_product(asked: Any) -> None:
    half, third = (total(needed(replace(asked.plan, n_rows=n))) for n in (6, 4))
    expected = "set trainers.dpo.per_device_train_batch_size: {} and gradient_accumulation_steps: {} (about"
    assert asked(half).startswith(expected.format(6, 4))
    assert asked(half - 1).startswith(expected.format(4, 6))
    assert asked(third - 1).startswith(expected.format(3, 8))


def test_where_no_batch_fits_a_shorter_length_is_advised_with_the_largest_batch(asked: Any) -> None:
    free = total(needed(replace(asked.plan, n_rows=1))) - 1
    n = max(n for n in (1, 2, 3, 4, 6, 12) if total(needed(replace(asked.plan, n_rows=n, length=280, own=271))) <= free)
    # Of 20 pairs, 18 are left by 280 tokens; the two longest have 400 and 1000. 24 = 12 x 2 pairs make a step.
    assert asked(free).startswith(
        f"set trainers.dpo.per_device_train_batch_size: {n} and gradient_accumulation_steps: {24 // n},"
        " train.max_length: 280, which leaves 18 of 20 pairs (about"
    )
    assert asked(1) == "no smaller batch, adapter or length would do: take a smaller model or a bigger machine"


def test_where_the_states_of_all_weights_do_not_fit_an_adapter_is_advised(llama_8b: Path) -> None:
    what, big = material(llama_8b, [2048] * 4), plan(llama_8b, [2048], on_gpu=True, is_checkpointed=True, n_rows=4)
    assert total(needed(big)) > 16 * 8e9
    assert advice(big, what, OPTIONS["dpo"], 40e9).startswith('set train.lora: {"r": 16,')


def test_fewer_bits_are_advised_on_a_gpu_under_an_adapter(llama_8b: Path) -> None:
    what, big = material(llama_8b, [2048] * 4, lora=BIG), plan(llama_8b, [2048], lora=BIG, on_gpu=True, n_rows=1)
    assert "train.load_in: 8bit" in advice(big, what, OPTIONS["dpo"], total(needed(big)) - 1)
    eight = total(needed(replace(big, load_in="8bit")))
    assert "train.load_in: 4bit" in advice(big, what, OPTIONS["dpo"], eight - 1)
    assert "load_in" not in advice(replace(big, on_gpu=False), what, OPTIONS["dpo"], eight)


def test_a_training_that_cannot_fit_is_refused_before_any_weights_are_opened(
    base: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads(Path("llama/config.json").read_text())
    wide = {"hidden_size": 2**18, "intermediate_size": 2**20, "head_dim": 2**16}  # 2 layers of 2 ** 40 weights
    Path("llama/config.json").write_text(json.dumps(config | wide))
    with pytest.raises(
        UserError, match=r"needs about \d+\.\d+ GiB of memory \(weights .*\); .* GiB are free; no smaller"
    ):
        fitted(material(Path("llama"), [100]), "dpo", OPTIONS["dpo"], UNWATCHED, None)  # type: ignore[arg-type]
    assert capsys.readouterr().err.startswith("train tsp_construct: needs about ")


def test_a_training_says_what_it_needs_and_goes_on(base: Path, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tune(base, pairs, "tuned")
    lines = [line for line in capsys.readouterr().err.splitlines() if "needs about" in line]
    assert len(lines) == 1 and "GiB are free" in lines[0]


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


def test_few_bits_without_an_adapter_or_without_a_gpu_are_refused_in_a_line(base: Path, pairs: Path) -> None:
    with pytest.raises(UserError, match=r"^train\.load_in is 4bit: such weights stay as they are; set train\.lora"):
        tune(base, pairs, "tuned", load_in="4bit")
    with pytest.raises(
        UserError, match=r"^train\.load_in is 8bit, which needs a GPU, and there is none; set it to null"
    ):
        tune(base, pairs, "tuned", load_in="8bit", lora=LORA)


def test_a_training_takes_what_was_estimated() -> None:
    command = [sys.executable, str(ROOT / "benchmarks/memory.py"), "--json", "--cases", "embedded, dpo"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    found = json.loads(done.stdout)
    assert 0.8 < found["estimate"] / found["taken"] < 1.3, found
