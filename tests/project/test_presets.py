"""Presets: complete, and what is built from them is what they say."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from dartune import params
from dartune.models.fetch import KNOWN
from dartune.referee.referee import Referee
from dartune.training import trainers
from dartune.training.train import new_trainer, write_tuned
from dartune.training.trainers import TRAINERS, TrainingInputs
from dartune.validation import stages
from small_llama import TASK, corpus, point_to_base, rows_of, write_llama, write_some_pairs

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("trl_imported")
PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))
PAPER = ["llama-3.1-8b", "llama-3.2-1b"]  # the models of arXiv 2507.10614
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture
def preset(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A params.yaml that names the preset."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text()
    assert text.count("\npreset: embedded ") == 1
    Path("params.yaml").write_text(text.replace("\npreset: embedded ", f"\npreset: {request.param} "))
    shutil.copytree(ROOT / "presets", "presets")
    return Path("params.yaml")


def write_relative(folder: Path, preset: str) -> Path:
    """A tiny model of the preset's architecture, whose layers are named as the great one's are."""
    from transformers import LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    write_llama(folder)
    if preset.startswith("qwen2"):
        sizes = LlamaForCausalLM.from_pretrained(folder).config.to_dict()
        keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        tokens = ("num_key_value_heads", "pad_token_id", "bos_token_id", "eos_token_id", "max_position_embeddings")
        Qwen2ForCausalLM(Qwen2Config(**{key: sizes[key] for key in (*keys, *tokens)})).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("preset", PRESETS, indirect=True)
def test_a_preset_gives_every_stage_and_every_trainer_all_its_values(preset: Path) -> None:
    for name, function in stages().items():
        assert params.section(name, function, preset)
    for name in TRAINERS:
        assert trainers.options(name, preset)
    content = params.everything(preset)
    model, revision = content["base"]["model"], content["base"]["revision"]
    assert model in ("embedded", *KNOWN) or re.fullmatch(r"[0-9a-f]{40}", revision)


EACH = [(preset, "dpo") for preset in PRESETS] + [("smollm2-135m", method) for method in TRAINERS if method != "dpo"]


@pytest.mark.parametrize(("preset", "method"), EACH, indirect=["preset"])
def test_presets_put_lora_on_all_linear_layers_but_the_output_layer(
    preset: Path, method: str, referee: Referee
) -> None:
    content = params.everything(preset)
    section, name = params.section("train", write_tuned, preset), content["preset"]
    base = point_to_base(write_relative(Path("relative"), name))
    rows = rows_of(write_some_pairs(base, corpus(TASK, 8, 3), held_out=0.25))
    settings = section | {"method": method, method: trainers.options(method, preset)}
    this = new_trainer(TrainingInputs(TASK, rows, base, None, Path("work"), settings, referee), Path())
    assert is_wrapped_as(this.model, section["lora"], n_layers=2)


def is_wrapped_as(model: Any, lora: dict[str, Any] | None, n_layers: int) -> bool:
    from peft.tuners.lora import LoraLayer

    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    if not lora:
        return not layers and all(p.requires_grad for p in model.parameters())
    assert {name.split(".")[-1] for name in layers} == LINEAR and len(layers) == n_layers * len(LINEAR)
    for layer in layers.values():
        assert (layer.r["default"], layer.lora_alpha["default"]) == (lora["r"], lora["lora_alpha"])
        assert (
            getattr(layer.lora_dropout["default"], "p", 0.0) == lora["lora_dropout"]
        )  # without any it is the identity
    return True


@pytest.mark.parametrize("preset", PAPER, indirect=True)
def test_dpo_gets_the_papers_settings_exactly(preset: Path) -> None:
    section = params.section("train", write_tuned, preset) | {"dpo": trainers.options("dpo", preset)}
    base = point_to_base(write_llama(Path("llama")))
    rows = rows_of(write_some_pairs(base, corpus(TASK, 8, 3)))
    args = new_trainer(TrainingInputs(TASK, rows, base, None, Path("work"), section, None), Path()).args
    assert (args.beta, args.loss_type, args.loss_weights, args.f_divergence_type) == (
        0.4,
        ["sigmoid"],
        [1.0],
        "reverse_kl",
    )
    assert (args.learning_rate, args.lr_scheduler_type, args.warmup_steps) == (5e-6, "cosine", 0.05)
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps == 8
    assert (args.num_train_epochs, args.max_length, section["lora"]["r"]) == (5, 2048, 64)
    assert (section["lora"]["lora_alpha"], section["lora"]["lora_dropout"]) == (32, 0.05)
    assert params.everything(preset)["sample"]["n_pairs"] == 2000
