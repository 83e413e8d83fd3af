"""Training: what TRL is given, what it does with it, and that no training is lost, unwatched or silently spoilt."""

import gc
import json
import math
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, get_args

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dartune import params, trainers, training
from dartune.checkpoint import open_model, open_tokenizer, revision
from dartune.cli import stages
from dartune.curve import Progress
from dartune.embedded import new_network, train_tokenizer
from dartune.generation import Sampling, start_seed
from dartune.local import Local
from dartune.mistake import Mistake
from dartune.referee import Referee
from dartune.reward import FAILURES, Reward
from dartune.task import Task
from dartune.trainers import ONLINE, TRAINERS, Loss, Material
from dartune.training import new_trainer, write_tuned
from dartune.verdict import STATUSES, Verdict
from dartune.watch import BATCH, Probe, log_probabilities, warnings_of
from tiny_models import (
    BROKEN,
    CHAT,
    FIRST,
    LAST,
    LORA,
    NONE,
    TASK,
    TERSE,
    UNWATCHED,
    corpus,
    curves,
    rows_of,
    trainer,
    tune,
    weights,
    write_base,
    write_llama,
    write_some_pairs,
    write_taught,
)

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def imported() -> Iterator[None]:
    """Each training collects garbage: it need not look at the hundreds of thousands of objects that imports left."""
    import peft  # noqa: F401
    import torch
    import trl.trainer.dpo_trainer
    import trl.trainer.grpo_trainer
    import trl.trainer.rloo_trainer
    import trl.trainer.sft_trainer  # noqa: F401

    torch.set_num_threads(1)
    gc.freeze()
    yield
    gc.unfreeze()


# A vocabulary of eight words, and chat turns as [user] hello </s> [assistant] good </s>.
WORDS = ("<pad>", "<s>", "</s>", "[user]", "[assistant]", "hello", "good", "bad")
TURNS = (
    "{{ bos_token }}{% for message in messages %} [{{ message.role }}] {{ message.content }} {{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %} [assistant]{% endif %}"
)


def write_word_model(folder: Path, chat: str | None) -> Path:
    """A model of WORDS whose answer to anything is a draw from one distribution, at first the uniform one.

    All words have the same embedding (ones) and the layers add nothing to it, so the last hidden state is a row of ones
    (its root mean square is 1), and the logit of a word is the sum of its row in the output layer: 0 at first.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, chat_template=chat, **special)
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, rms_norm_eps=0.0, **sizes)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.fill_(1)
        for part in (model.model.layers[0].self_attn.o_proj, model.model.layers[0].mlp.down_proj, model.lm_head):
            part.weight.zero_()
    model.save_pretrained(folder)
    return folder


def answer_with(model: Any, probabilities: dict[str, float]) -> None:
    """Set the distribution of the words; what is left is shared out among the other ones."""
    import torch

    rest = (1 - sum(probabilities.values())) / (len(WORDS) - len(probabilities))
    values = torch.tensor([probabilities.get(word, rest) for word in WORDS])
    with torch.no_grad():
        model.lm_head.weight.copy_((values.log() / 16)[:, None].expand(8, 16))


def word_rows(is_chat: bool) -> list[dict[str, Any]]:
    """The pair hello: good or bad, once to train on and once held out, as stage pairs has it."""
    sides = {"prompt": ("user", "hello"), "chosen": ("assistant", "good"), "rejected": ("assistant", "bad")}
    if is_chat:
        texts: dict[str, Any] = {name: [{"role": role, "content": text}] for name, (role, text) in sides.items()}
    else:
        texts = {"prompt": "hello ", "chosen": "good ", "rejected": "bad "}
    counts = {"prompt_tokens": 5 if is_chat else 1, "chosen_tokens": 2, "rejected_tokens": 2}
    return [{"pair": f"p{i}", **texts, **counts, "is_held_out": bool(i)} for i in range(2)]


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_word_model(tmp_path / "words", TURNS)


# Chat: <s> [user] hello </s> [assistant] is the prompt, and the model's turn is "good </s>": one end of text each.
# Plain: "hello " is the prompt, and TRL adds the end of text to the answer.
GIVEN = [(TURNS, [1, 3, 5, 2, 4]), (None, [5])]


@pytest.mark.parametrize(("chat", "prompt"), GIVEN, ids=["chat", "plain"])
def test_trl_is_given_the_prompt_and_each_answer_with_one_end_of_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chat: str | None, prompt: list[int]
) -> None:
    monkeypatch.chdir(tmp_path)
    this = trainer(write_word_model(tmp_path / "words", chat), word_rows(bool(chat)))
    (example,) = this.train_dataset
    found = [example[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    assert found == [prompt, [6, 2], [7, 2]]
    batch = next(iter(this.get_train_dataloader()))
    n = len(prompt)
    assert batch["input_ids"].tolist() == [[*prompt, 6, 2], [*prompt, 7, 2]]  # chosen first
    assert batch["completion_mask"].tolist() == [[0] * n + [1, 1]] * 2
    # ln(1/8) a word, two words an answer
    assert batch["ref_chosen_logps"].tolist() == pytest.approx([-2 * math.log(8)], abs=1e-5)


def test_trl_computes_the_logits_in_tiles_no_wider_than_the_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl.trainer import utils

    widths, real = [], utils._ChunkedLogProbFunction

    class Noted:
        @staticmethod
        def apply(*arguments: Any) -> Any:
            widths.append(arguments[5])
            return real.apply(*arguments)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Noted)
    trainer(write_word_model(tmp_path / "words", TURNS), word_rows(True)).train()
    assert set(widths) == {len(WORDS)}


# The reference is uniform, 1/8 a word. The model answers good 1/2, </s> 1/4, bad 1/8 and the other five 1/40 each. So
# the chosen "good </s>" became (1/2 * 1/4) / (1/8 * 1/8) = 8 times as likely, the rejected "bad </s>" 2 times, and with
# beta = 1/2 the margin is 1/2 * (ln 8 - ln 2) = ln 2.
LEARNT = {"good": 1 / 2, "</s>": 1 / 4, "bad": 1 / 8}
LN2 = math.log(2)
LOSSES: dict[str, tuple[dict[str, Any], float]] = {
    # -ln sigmoid(ln 2) = ln(1 + 1/2)
    "sigmoid": ({"beta": 0.5}, math.log(1.5)),
    # the paper's beta: -ln sigmoid(0.4 * 2 ln 2) = ln(1 + 2^-0.8)
    "sigmoid, beta 0.4": ({"beta": 0.4}, math.log(1 + 2**-0.8)),
    # f'(t) = 1 - 1/t is 7/8 and 1/2, so the margin is 1/2 * 3/8
    "forward_kl": ({"beta": 0.5, "f_divergence_type": "forward_kl"}, math.log(1 + math.exp(-3 / 16))),
    # f'(t) = ln(2t / (t + 1)) is ln(16/9) and ln(4/3), so the margin is 1/2 * ln(4/3)
    "js": ({"beta": 0.5, "f_divergence_type": "js_divergence"}, math.log(1 + (3 / 4) ** 0.5)),
    # the mean of -ln 1/2 and -ln 1/4
    "sft": ({"beta": 0.5, "loss_type": ["sft"]}, 1.5 * LN2),
    # by tokens: (ln 8 - ln 2) / 2 - 1 / (2 * 1/2), squared
    "ipo": ({"beta": 0.5, "loss_type": ["ipo"]}, (LN2 - 1) ** 2),
    "hinge": ({"beta": 0.5, "loss_type": ["hinge"]}, 1 - LN2),
    # (0.9 * -ln sigmoid(ln 2) - 0.1 * -ln sigmoid(-ln 2)) / 0.8
    "robust": (
        {"beta": 0.5, "loss_type": ["robust"], "label_smoothing": 0.1},
        (0.9 * math.log(1.5) - 0.1 * math.log(3)) / 0.8,
    ),
    "mixture": (
        {"beta": 0.5, "loss_type": ["sigmoid", "ipo", "sft"], "loss_weights": [1.0, 0.5, 2.0]},
        math.log(1.5) + 0.5 * (LN2 - 1) ** 2 + 3 * LN2,
    ),
}


@pytest.mark.parametrize(("options", "loss"), LOSSES.values(), ids=LOSSES)
def test_a_dpo_loss_is_what_its_formula_gives_by_hand(words: Path, options: dict[str, Any], loss: float) -> None:
    this = trainer(words, word_rows(True), **options)
    answer_with(this.model, LEARNT)
    figures = this.evaluate()
    assert figures["eval_loss"] == pytest.approx(loss, abs=1e-5)
    assert figures["eval_rewards/margins"] == pytest.approx(options["beta"] * 2 * LN2, abs=1e-5)


def test_before_the_first_step_the_dpo_loss_is_log_two_and_the_sft_term_adds_its_weight(words: Path) -> None:
    # the policy is the reference: all rewards are 0 and -ln sigmoid(0) = ln 2; every word has 1/8, so sft is ln 8
    assert trainer(words, word_rows(True)).evaluate()["eval_loss"] == pytest.approx(LN2, abs=1e-5)
    options = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.1]}
    assert trainer(words, word_rows(True), **options).evaluate()["eval_loss"] == pytest.approx(1.3 * LN2, abs=1e-5)


@pytest.mark.parametrize("lora", [None, LORA | {"lora_dropout": 0.5}], ids=["all weights", "LoRA"])
def test_a_tuned_model_that_is_tuned_again_is_its_own_reference(
    base: Path, pairs: Path, lora: dict[str, Any] | None
) -> None:
    tune(base, pairs, "tuned", lora=lora)
    again = trainer(base, rows_of(pairs), lora=lora, start=Path("tuned"))
    assert again.evaluate()["eval_loss"] == pytest.approx(LN2, abs=1e-4)
    first = trainer(base, rows_of(pairs), lora=lora)
    assert first.train_dataset["ref_chosen_logps"] != again.train_dataset["ref_chosen_logps"]
    if lora:
        assert again.model.peft_config["default"].lora_dropout == 0.5  # of the adapter that is trained


def test_sft_learns_the_chosen_answer_alone(words: Path) -> None:
    this = trainer(words, word_rows(True), "sft")
    (example,) = this.train_dataset
    assert example["input_ids"] == [1, 3, 5, 2, 4, 6, 2]
    answer_with(this.model, LEARNT)
    assert this.evaluate()["eval_loss"] == pytest.approx(1.5 * LN2, abs=1e-5)  # as above; the prompt does not count


@pytest.mark.parametrize("name", get_args(Loss))
def test_every_loss_that_can_be_named_runs_and_moves_the_weights(words: Path, name: str) -> None:
    this = trainer(words, word_rows(True), loss_type=[name], label_smoothing=0.1)
    this.train()
    assert math.isfinite(this.state.log_history[-1]["train_loss"])
    assert this.model.lm_head.weight.abs().max() > 0  # it was 0


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_taught(tmp_path_factory.mktemp("taught"), [FIRST, LAST, BROKEN, NONE])


@pytest.fixture(scope="module")
def referee() -> Iterator[Referee]:
    with Referee(Task(TASK), "train", max_slowdown=1000, memory_mib=512) as referee:
        yield referee


@pytest.fixture
def base(taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_base(taught)


@pytest.fixture
def pairs(base: Path) -> Path:
    return write_some_pairs(base, corpus(TASK, 40, 3))


ALL = [(method, lora) for method in TRAINERS for lora in (None, LORA)]
NAMES = [f"{method}, {'LoRA' if lora else 'all weights'}" for method, lora in ALL]


@pytest.mark.parametrize(("method", "lora"), ALL, ids=NAMES)
def test_after_two_steps_every_trainable_weight_has_changed_and_no_other(
    base: Path, pairs: Path, referee: Referee, method: str, lora: dict[str, Any] | None
) -> None:
    import torch

    few = {"n_completions": 16, "num_generations": 8} if method in ONLINE else {"num_train_epochs": 0.5}
    this = trainer(base, rows_of(pairs), method, lora, referee=referee, **few)
    before = {name: (p.detach().clone(), p.requires_grad) for name, p in this.model.named_parameters()}
    assert all(is_trained == (("lora" in name) == bool(lora)) for name, (_, is_trained) in before.items())
    this.train()
    assert this.state.global_step == 2
    moved = {name for name, p in this.model.named_parameters() if not p.equal(before[name][0])}
    assert moved == {name for name, (_, is_trained) in before.items() if is_trained}
    if lora:
        ids = torch.tensor([[5, 6, 7, 8]])
        with torch.no_grad(), this.model.disable_adapter():
            assert this.model.eval()(ids).logits.equal(open_model(base)(ids).logits)


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
    assert model == "embedded" or re.fullmatch(r"[0-9a-f]{40}", revision)


@pytest.mark.parametrize("preset", PRESETS, indirect=True)
def test_a_preset_builds_all_trainers_with_lora_on_all_linear_layers_but_the_output(
    preset: Path, referee: Referee
) -> None:
    content = params.everything(preset)
    section, name = params.section("train", write_tuned, preset), content["preset"]
    base = write_base(write_relative(Path("relative"), name))
    rows = rows_of(write_some_pairs(base, corpus(TASK, 8, 3), held_out=0.25))
    common = {key: section[key] for key in ("seed", "lr_scheduler_type", "warmup_steps", "max_grad_norm")}
    drawn = {key: section[key] for key in ("temperature", "top_p", "max_new_tokens")}
    for method in TRAINERS:
        settings: Any = (
            section["lora"],
            section["load_in"],
            section["max_length"],
            section["patience"],
            common,
            drawn,
            referee,
        )
        this = new_trainer(
            Material(TASK, rows, base, None, Path("work"), *settings), method, trainers.options(method, preset), Path()
        )
        assert is_wrapped_as(this.model, section["lora"], n_layers=2)


def is_wrapped_as(model: Any, lora: dict[str, Any] | None, n_layers: int) -> bool:
    from peft.tuners.lora import LoraLayer

    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    if not lora:
        return not layers and all(p.requires_grad for p in model.parameters())
    assert {name.split(".")[-1] for name in layers} == LINEAR and len(layers) == n_layers * len(LINEAR)
    for layer in layers.values():
        assert (layer.r["default"], layer.lora_alpha["default"]) == (lora["r"], lora["lora_alpha"])
        assert layer.lora_dropout["default"].p == lora["lora_dropout"]
    return True


@pytest.mark.parametrize("preset", PAPER, indirect=True)
def test_dpo_gets_the_papers_settings_exactly(preset: Path) -> None:
    section, options = params.section("train", write_tuned, preset), trainers.options("dpo", preset)
    base = write_base(write_llama(Path("llama")))
    common = {key: section[key] for key in ("seed", "lr_scheduler_type", "warmup_steps", "max_grad_norm")}
    rows = rows_of(write_some_pairs(base, corpus(TASK, 8, 3)))
    settings: Any = (section["lora"], section["load_in"], section["max_length"], section["patience"], common, {}, None)
    args = new_trainer(Material(TASK, rows, base, None, Path("work"), *settings), "dpo", options, Path()).args
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


class Stop(Exception):
    pass


def stopping_at(step: int) -> Any:
    def on_step_end(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == step:
            raise Stop

    return on_step_end


def assert_same(one: str, other: str) -> None:
    assert weights(Path(one)) == weights(Path(other))
    assert Path(f"{one}.json").read_text() == Path(f"{other}.json").read_text()
    assert curves(one) == curves(other) != {}


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints every 4 steps, logs every 2."""
    monkeypatch.setattr(trainers, "SAVE_STEPS", 4)
    monkeypatch.setattr(trainers, "LOG_STEPS", 2)


WATCHED = UNWATCHED | {"n_times": 4, "n_samples": 8, "remember": ["admissible_set", TASK]}
DROPOUT = LORA | {"lora_dropout": 0.2}
GROUPS = {"n_completions": 24, "num_generations": 4}  # of answers: six, each of which counts twice where it is said so
INTERRUPTED: dict[str, tuple[int, dict[str, Any]]] = {  # the step after which it is killed
    "dpo, all weights": (6, {"options": {"num_train_epochs": 2}}),
    "dpo, LoRA": (
        7,
        {"options": {"num_train_epochs": 2, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}}
        | {"lora": DROPOUT, "lr_scheduler_type": "cosine", "warmup_steps": 0.25},
    ),
    "dpo, from an adapter": (5, {"start": Path("start"), "lora": DROPOUT, "options": {"num_train_epochs": 2}}),
    "dpo, patience": (7, {"patience": 2, "options": {"num_train_epochs": 5, "learning_rate": 0.05}}),
    "dpo, watched": (6, {"watch": WATCHED, "options": {"num_train_epochs": 2}}),
    "dpo, watched and rolled back": (
        6,
        {"watch": WATCHED | {"on_warning": "roll_back", "max_chosen_drop": 250.0}, "options": {"num_train_epochs": 2}},
    ),
    "sft, all weights": (6, {"method": "sft", "options": {"num_train_epochs": 2}}),
    "sft, LoRA": (3, {"method": "sft", "lora": DROPOUT, "options": {"num_train_epochs": 2}}),
    "grpo, all weights": (17, {"method": "grpo", "options": GROUPS | {"num_iterations": 3}}),
    "grpo, LoRA": (5, {"method": "grpo", "lora": DROPOUT, "options": GROUPS | {"beta": 0.1}}),
    "rloo, all weights": (5, {"method": "rloo", "options": GROUPS}),
    "rloo, LoRA": (10, {"method": "rloo", "lora": DROPOUT, "options": GROUPS | {"num_iterations": 2}}),
}


@pytest.mark.parametrize(("step", "settings"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_an_interrupted_training_ends_with_the_bytes_of_an_undisturbed_one(
    base: Path, pairs: Path, often: None, monkeypatch: pytest.MonkeyPatch, step: int, settings: dict[str, Any]
) -> None:
    if "start" in settings:
        tune(base, pairs, "start", lora=DROPOUT)
    tune(base, pairs, "whole", **settings)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Progress, "on_step_end", stopping_at(step))
        tune(base, pairs, "stopped", **settings)
    assert not Path("stopped").exists()
    with monkeypatch.context() as patch:
        steps: list[int] = []
        patch.setattr(Progress, "on_step_end", lambda self, args, state, control, **_: steps.append(state.global_step))
        tune(base, pairs, "stopped", **settings)
    between = 4 * settings.get("options", {}).get("num_iterations", 1)
    assert steps[0] == (step - 1) // between * between + 1  # it went on from its last checkpoint
    assert_same("stopped", "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from dartune import trainers
from dartune.curve import Progress
from tiny_models import tune

def on_step_end(self, args, state, control, **_):
    if state.global_step == 6:
        os.kill(os.getpid(), signal.SIGKILL)

trainers.SAVE_STEPS, trainers.LOG_STEPS, Progress.on_step_end = 4, 2, on_step_end
tune(Path("base"), Path("pairs.parquet"), "killed", options={"num_train_epochs": 2})
"""


def test_a_killed_process_leaves_the_old_model_and_its_rerun_makes_the_new_one(
    base: Path, pairs: Path, often: None
) -> None:
    Path("killed").mkdir()
    Path("killed/old").write_text("the model of an earlier run")
    command = [sys.executable, "-c", KILLED, str(ROOT / "tests")]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert [path.name for path in Path("killed").iterdir()] == ["old"]
    for name in ("killed", "whole"):
        tune(base, pairs, name, options={"num_train_epochs": 2})
    assert not Path("killed/old").exists()
    assert_same("killed", "whole")


# What ends a training early must end it again, when the run was killed after that: while it saved the model, say.
ENDED: dict[str, tuple[bool, dict[str, Any]]] = {
    "patience": (True, {"patience": 1}),
    "a warning": (True, {"watch": UNWATCHED | {"n_times": 5, "on_warning": "stop", "max_chosen_drop": 0.0}}),
    "the last step": (False, {}),
}


@pytest.mark.parametrize(("is_early", "settings"), ENDED.values(), ids=ENDED)
def test_a_training_that_ended_and_was_killed_before_its_metrics_does_not_go_on_training(
    base: Path, pairs: Path, often: None, monkeypatch: pytest.MonkeyPatch, is_early: bool, settings: dict[str, Any]
) -> None:
    def killed(*_: Any) -> None:
        raise Stop

    settings = settings | {"options": {"num_train_epochs": 5, "learning_rate": 0.05}}
    tune(base, pairs, "whole", **settings)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(training, "record", killed)
        tune(base, pairs, "stopped", **settings)
    tune(base, pairs, "stopped", **settings)
    assert_same("stopped", "whole")
    assert (json.loads(Path("whole.json").read_text())["steps"] < 20) == is_early


def test_patience_stops_the_training_and_keeps_the_model_with_the_lowest_held_out_loss(
    base: Path, pairs: Path, often: None
) -> None:
    options = {"num_train_epochs": 10, "learning_rate": 0.05}
    this = trainer(base, rows_of(pairs), patience=2, **options)
    this.train()
    losses = [entry["eval_loss"] for entry in this.state.log_history if "eval_loss" in entry]
    lowest = losses.index(min(losses))
    assert len(losses) == lowest + 3 < 10  # of ten looks in all; two looks without a lower loss
    assert this.evaluate()["eval_loss"] == pytest.approx(losses[lowest], abs=1e-6)
    tune(base, pairs, "tuned", patience=2, options=options)
    metrics = json.loads(Path("tuned.json").read_text())
    assert metrics["steps"] == 4 * len(losses) < 40
    assert metrics["held_out"]["loss"] == pytest.approx(losses[lowest], abs=1e-6)


def test_log_probabilities_are_those_of_the_answer_alone(words: Path) -> None:
    model = open_model(words)
    answer_with(model, LEARNT)
    # ln(1/2 * 1/4); ln(1/8 * 1/4) of a shorter text, which is padded; ln(1/4) of the end alone
    texts = [([1, 3, 5, 2, 4, 6, 2], 5), ([5, 7, 2], 1), ([5, 7, 2], 2)]
    assert log_probabilities(model, texts) == pytest.approx([-3 * LN2, -5 * LN2, -2 * LN2], abs=1e-5)


def test_log_probabilities_in_batches_are_those_of_a_plain_loop(taught: Path) -> None:
    import torch

    model, rng = open_model(taught).eval(), Random(0)
    texts = [([rng.randrange(300) for _ in range(rng.randint(4, 30))], rng.randint(1, 3)) for _ in range(BATCH + 5)]

    def one(ids: list[int], start: int) -> float:
        with torch.no_grad():
            scores = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return sum(float(scores[place - 1, ids[place]]) for place in range(start, len(ids)))

    assert log_probabilities(model, texts) == pytest.approx([one(*text) for text in texts], rel=1e-5)


def quality(place: int, split: str) -> float:
    """Of the program that goes to the nearest city (0) or the furthest (-1), by a plain loop."""
    lengths = []
    for instance in Task(TASK).instances(split):
        distances, tour, left = instance["distances"], [0], set(range(1, len(instance["distances"])))
        while left:
            here = tour[-1]
            tour.append(sorted(left, key=lambda city: distances[here][city])[place])
            left.remove(tour[-1])
        lengths.append(sum(distances[a][b] for a, b in pairwise([*tour, 0])))
    return Task(TASK).reference(split) / (sum(lengths) / len(lengths))


@pytest.fixture(scope="module")
def validation() -> Iterator[Referee]:
    with Referee(Task(TASK), "validation", max_slowdown=1000, memory_mib=512) as referee:
        yield referee


DRAWN = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=32)


def probe(base: Path, referee: Referee, held_out: list[dict[str, Any]], **changes: Any) -> Probe:
    watching: Any = UNWATCHED | {"n_samples": 40} | changes
    return Probe(referee, open_tokenizer(base), held_out, watching, DRAWN, 3)


def test_the_samples_figures_are_those_of_the_answers_that_were_written(taught: Path, validation: Referee) -> None:
    model, seed = open_model(taught), start_seed("watch", TASK, 3)
    backend = Local.of(model.eval(), open_tokenizer(taught))
    answers = backend.complete([Task(TASK).prompt] * 40, seed=seed, sampling=DRAWN)
    texts = [answer.text for answer in answers]
    n_first, n_last = texts.count(FIRST), texts.count(LAST)
    assert min(n_first, n_last, texts.count(BROKEN), texts.count(NONE)) > 0
    assert n_first + n_last + texts.count(BROKEN) + texts.count(NONE) == 40  # nothing that we do not know
    figures = probe(taught, validation, []).measure(model.train())
    assert model.training  # as it was
    assert figures == {
        "validity": (n_first + n_last) / 40,
        "mean": pytest.approx((n_first * quality(0, "validation") + n_last * quality(-1, "validation")) / 40, abs=1e-6),
        "distinct_behaviours": 2 / 40,
        "equal_to_template": n_first / 40,  # the template goes to the nearest city
        "mean_tokens": sum(answer.n_tokens for answer in answers) / 40,
    }


def test_a_model_that_knows_nothing_gives_each_token_of_pairs_and_of_other_tasks_one_part_of_the_vocabulary(
    base: Path, pairs: Path, validation: Referee
) -> None:
    import torch

    held_out = [row for row in rows_of(pairs) if row["is_held_out"]]
    model, watch = open_model(base), probe(base, validation, held_out, n_samples=2, remember=["admissible_set", TASK])
    watch.measure(model)  # the start, against which margins are taken
    with torch.no_grad():
        model.lm_head.weight.zero_()
    found, nats = watch.measure(model), math.log(model.config.vocab_size)
    assert found["loss_elsewhere"] == pytest.approx(nats, abs=1e-5)
    assert len(watch.lessons) == 32  # of admissible_set alone: what the training is about is no other task
    for side in ("chosen", "rejected"):
        n_tokens = [row[f"{side}_tokens"] for row in held_out]
        assert found[side] == pytest.approx(-nats * sum(n_tokens) / len(n_tokens), rel=1e-5)


def test_the_margin_is_how_much_more_the_chosen_gained_since_the_start(words: Path, validation: Referee) -> None:
    watch, model = probe(words, validation, word_rows(True), n_samples=1), open_model(words)
    watch.sane = watch.pairs[0]["chosen"]  # no program can be said in eight words
    assert watch.measure(model)["margin"] == 0
    answer_with(model, LEARNT)
    found = watch.measure(model)
    assert (found["chosen"], found["rejected"]) == pytest.approx((-3 * LN2, -5 * LN2), abs=1e-5)
    assert (found["margin"], found["accuracy"]) == pytest.approx((2 * LN2, 1.0), abs=1e-5)  # ln 8 - ln 2, as above


@pytest.mark.parametrize(("method", "options"), [("dpo", {}), ("grpo", {"n_completions": 16})])
def test_a_watched_training_is_the_same_training(base: Path, pairs: Path, method: str, options: dict[str, Any]) -> None:
    for name, watch in (("alone", UNWATCHED), ("watched", WATCHED | {"n_times": 3})):
        tune(base, pairs, name, method=method, lora=DROPOUT, watch=watch, options=options)
    assert weights(Path("alone")) == weights(Path("watched"))
    assert curves("alone") == curves("watched")
    looks = json.loads(Path("watched.json").read_text())["watch"]
    assert [look["step"] for look in looks] == [0, 1, 3, 4]  # of four steps: before the first, and after 4/3, 8/3, 12/3


BEFORE = {"validity": 0.75, "distinct_behaviours": 0.5, "equal_to_template": 0.25, "mean_tokens": 64.0}
BEFORE |= {"chosen": -8.0, "loss_elsewhere": 1.5}
# Each is exactly at its limit; the numbers are sums of powers of two, so nothing is rounded.
MOVES = [
    ("validity", 0.5, "max_validity_drop", 0.25, "validity fell: validity 0.75 to 0.5 (watch.max_validity_drop"),
    (
        "distinct_behaviours",
        0.375,
        "max_distinct_drop",
        0.125,
        "distinct behaviours fell: distinct_behaviours 0.5 to 0.",
    ),
    (
        "equal_to_template",
        0.375,
        "max_template_rise",
        0.125,
        "copies of the template rose: equal_to_template 0.25 to 0.",
    ),
    ("mean_tokens", 80.0, "max_length_drift", 0.25, "programs changed their length: mean_tokens 64 to 80 (watch.max_l"),
    ("mean_tokens", 48.0, "max_length_drift", 0.25, "programs changed their length: mean_tokens 64 to 48 (watch.max_l"),
    ("chosen", -10.0, "max_chosen_drop", 2.0, "chosen programs got unlikely: chosen -8 to -10 (watch.max_chosen_drop"),
    ("loss_elsewhere", 2.0, "max_forgetting", 0.5, "other tasks' programs got unlikely: loss_elsewhere 1.5 to 2 (watc"),
]


@pytest.mark.parametrize(("name", "value", "limit", "bound", "words"), MOVES, ids=[f"{m[0]} {m[1]}" for m in MOVES])
def test_a_figure_warns_beyond_its_limit_and_not_at_it(
    name: str, value: float, limit: str, bound: float, words: str
) -> None:
    now, limits = BEFORE | {name: value}, UNWATCHED | {limit: bound}
    assert warnings_of(BEFORE, now, limits) == []  # type: ignore[arg-type]
    (warning,) = warnings_of(BEFORE, now, limits | {limit: bound - 0.001})  # type: ignore[arg-type]
    assert warning.startswith(words)
    better = BEFORE | {name: 2 * BEFORE[name] - value} if name != "mean_tokens" else BEFORE
    assert warnings_of(BEFORE, better, limits | {limit: 0.0}) == []  # type: ignore[arg-type]


# A step of 1.0 on every weight leaves nothing of the model.
COLLAPSE = {"method": "sft", "options": {"learning_rate": 1.0}}
STRICT = WATCHED | {"max_validity_drop": 0.05}


def test_a_collapse_is_noted_and_trained_on(base: Path, pairs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tune(base, pairs, "tuned", watch=STRICT, **COLLAPSE)
    metrics = json.loads(Path("tuned.json").read_text())
    assert (metrics["steps"], metrics["kept_step"]) == (4, None)
    assert metrics["watch"][0]["warnings"] == [] and metrics["watch"][1]["warnings"] != []
    assert "warning: validity fell: validity 0." in capfd.readouterr().err


def test_a_collapse_stops_the_training(base: Path, pairs: Path) -> None:
    tune(base, pairs, "tuned", watch=STRICT | {"on_warning": "stop"}, **COLLAPSE)
    metrics = json.loads(Path("tuned.json").read_text())
    assert (metrics["steps"], metrics["kept_step"]) == (1, None)


def test_a_collapse_is_rolled_back_to_the_best_model_before_it(base: Path, pairs: Path) -> None:
    import torch

    tune(base, pairs, "tuned", watch=STRICT | {"on_warning": "roll_back"}, **COLLAPSE)
    metrics = json.loads(Path("tuned.json").read_text())
    assert (metrics["steps"], metrics["kept_step"]) == (1, 0)
    assert metrics["held_out"] == {}  # of the model that was given up
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert open_model(base, Path("tuned"))(ids).logits.equal(open_model(base)(ids).logits)


def test_the_best_model_before_a_collapse_may_be_one_on_the_way(base: Path, validation: Referee) -> None:
    # the first program is learnt while the steps are small; they grow until they undo it
    pairs = write_some_pairs(base, [LAST] * 10 + [FIRST] * 10)
    growing = {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 1000.0, "method": "sft"}
    options = {"learning_rate": 1.0, "num_train_epochs": 6, "per_device_train_batch_size": 8}
    watch = STRICT | {"n_times": 6, "n_samples": 32, "on_warning": "roll_back"}
    tune(base, pairs, "tuned", watch=watch, options=options, **growing)
    metrics = json.loads(Path("tuned.json").read_text())
    *good, last = metrics["watch"]
    assert last["warnings"] and not any(look["warnings"] for look in good)
    best = max(good, key=lambda look: look["mean"])
    assert 0 < metrics["kept_step"] == best["step"] < last["step"] == metrics["steps"] < 6
    kept = open_model(base, Path("tuned")).eval()
    again = Probe(validation, open_tokenizer(base), [], watch, Sampling(1.0, 0.95, 32), 0).measure(kept)  # type: ignore[arg-type]
    assert (again["mean"], again["validity"]) == (best["mean"], best["validity"])


# The same failure or program as the model may write it, from nothing to the furthest that fails.
ATTEMPTS = {
    "no_program": "I cannot.",
    "syntax": BROKEN,
    "forbidden": "import os\ndef select_next_node(a, b, c, d):\n    os.fork()\n    return c[0]",
    "import": "import torch\ndef select_next_node(a, b, c, d):\n    return c[0]",
    "signature": "def select_next_node(a, b):\n    return 0",
    "runtime": "def select_next_node(a, b, c, d):\n    return 1 // 0",
    "memory": "def select_next_node(a, b, c, d):\n    return [0] * 10**9",
    "infeasible": "def select_next_node(a, b, c, d):\n    return a",
}


def test_a_reward_is_the_quality_of_a_program_or_what_its_failure_costs(referee: Referee) -> None:
    reward = Reward(referee, "train")
    texts = [*ATTEMPTS.values(), LAST, FIRST]
    values = reward(texts)
    assert values[: len(ATTEMPTS)] == [FAILURES[status] for status in ATTEMPTS]
    assert values[len(ATTEMPTS) :] == pytest.approx([quality(-1, "train"), quality(0, "train")])
    assert reward([[{"role": "assistant", "content": text}] for text in texts]) == values


def test_failures_cost_less_the_further_a_program_got_and_all_less_than_a_program_that_works() -> None:
    assert set(FAILURES) == set(STATUSES) - {"ok"}
    order = ["syntax", "import", "signature", "runtime", "timeout", "output", "infeasible"]
    assert [FAILURES[status] for status in order] == sorted({FAILURES[status] for status in order})
    assert FAILURES["no_program"] == min(FAILURES.values()) == -1 and max(FAILURES.values()) < 0


def test_a_reward_lies_between_0_and_1_however_good_the_program(referee: Referee) -> None:
    reward, reference = Reward(referee, "train"), Task(TASK).reference("train")
    scores = {-reference / 2: 1.0, -reference: 1.0, -4 * reference: 0.25, -math.inf: 0.0}  # a tour's length, negated
    assert {score: reward.of(Verdict("ok", score=score)) for score in scores} == scores


@pytest.mark.parametrize("method", TRAINERS)
def test_a_training_that_diverges_ends_with_one_line_and_loses_nothing(base: Path, pairs: Path, method: str) -> None:
    Path("tuned").mkdir()
    Path("tuned/old").write_text("the model of an earlier run")
    more = {"n_completions": 16} if method in ONLINE else {}
    with pytest.raises(Mistake) as caught:
        tune(base, pairs, "tuned", method=method, options={"learning_rate": 1e38} | more)
    # the first step, from the base model, has a loss; the weights that it leaves have none soon
    pattern = (
        r"train: the loss is nan at step [23]{}; lower the trainer's learning_rate or train\.max_grad_norm, or raise "
    )
    names = "" if method in ONLINE else r", pairs tsp_construct-\d{5}(, tsp_construct-\d{5}){3}"
    assert re.match(pattern.format(names), str(caught.value)) and "\n" not in str(caught.value)
    assert [path.name for path in Path("tuned").iterdir()] == ["old"]
    if names:
        drawn = {row["pair"] for row in rows_of(pairs) if not row["is_held_out"]}
        assert set(re.findall(r"tsp_construct-\d{5}", str(caught.value))) < drawn


def test_a_training_whose_last_step_breaks_the_model_does_not_save_it(base: Path, pairs: Path) -> None:
    with pytest.raises(Mistake, match=r"^train: a weight is no number at step 1; lower the trainer's learning_rate or"):
        tune(base, pairs, "tuned", method="grpo", options={"learning_rate": 1e39, "n_completions": 4})
    assert not Path("tuned").exists()


def test_a_watched_training_that_diverges_ends_with_one_line(base: Path, pairs: Path) -> None:
    with pytest.raises(
        Mistake, match=r"^train: the model's probabilities are no numbers at step [12]; lower the trainer's"
    ):
        tune(base, pairs, "tuned", watch=WATCHED, options={"learning_rate": 1e30})


def test_pairs_that_are_too_long_are_named_and_all_too_long_is_refused(base: Path, pairs: Path) -> None:
    rows = rows_of(pairs)
    lengths = sorted(row["prompt_tokens"] + max(row["chosen_tokens"], row["rejected_tokens"]) for row in rows)
    tune(base, pairs, "tuned", max_length=lengths[-3])
    too_long = json.loads(Path("tuned.json").read_text())["too_long"]
    assert len(too_long) == sum(length > lengths[-3] for length in lengths) > 0
    assert set(too_long) <= {row["pair"] for row in rows}
    with pytest.raises(Mistake, match=r"all 20 pairs of tsp_construct are longer than train\.max_length = 10 tokens"):
        tune(base, pairs, "other", max_length=10)


def test_no_pairs_and_only_held_out_pairs_are_refused(base: Path, pairs: Path) -> None:
    table = pq.read_table(pairs)
    pq.write_table(table.slice(0, 0), "none.parquet")
    with pytest.raises(
        Mistake, match=r"^train: there are no pairs of tsp_construct; raise sample\.n_pairs or pool\.n_pr"
    ):
        tune(base, Path("none.parquet"), "tuned")
    pq.write_table(table.filter(pc.field("is_held_out")), "held.parquet")
    with pytest.raises(Mistake, match=r"^train: all 4 pairs of tsp_construct are held out; lower pairs\.held_out"):
        tune(base, Path("held.parquet"), "tuned")


def test_patience_without_a_held_out_loss_is_refused(base: Path, pairs: Path) -> None:
    for method in ONLINE:
        with pytest.raises(
            Mistake, match=rf"^train\.patience is 3: {method} has no held-out loss to look at; set it to"
        ):
            tune(base, pairs, "tuned", method=method, patience=3)
    pq.write_table(pq.read_table(pairs).filter(~pc.field("is_held_out")), "none.parquet")
    with pytest.raises(Mistake, match=r"^train\.patience is 3, and no pair of tsp_construct is held out; raise pairs"):
        tune(base, Path("none.parquet"), "tuned", patience=3)


OTHER = {  # the tokenizer's chat template, and what a pair of it looks like to the model that is trained
    "another chat template": CHAT,
    "plain text": None,
}


@pytest.mark.parametrize("chat", OTHER.values(), ids=OTHER)
def test_pairs_of_another_models_template_are_refused(base: Path, pairs: Path, chat: str | None) -> None:
    """And the other way round."""
    other = write_llama(Path("other"), chat)
    theirs = write_some_pairs(other, corpus(TASK, 40, 3), Path("theirs.parquet"))
    for model, made in ((base, theirs), (other, pairs)):
        words = rf"^train: pair tsp_construct-00000 was made for another model than {model}; run stage pairs again$"
        with pytest.raises(Mistake, match=words):
            tune(model, made, "tuned")


def test_pairs_of_another_tokenizer_are_refused(base: Path, pairs: Path, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(corpus(TASK, 30, 9), 400)
    tokenizer.chat_template = TERSE
    other = write_llama(Path("other"))
    tokenizer.save_pretrained(other)
    with pytest.raises(Mistake, match="was made for another model than other; run stage pairs again"):
        tune(other, pairs, "tuned")


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "LoRA"])
def test_a_model_tuned_on_another_base_is_refused(base: Path, pairs: Path, lora: dict[str, Any] | None) -> None:
    tune(base, pairs, "tuned", lora=lora)
    assert Local(base, Path("tuned")).model is not None
    other = write_taught(Path("other"), [LAST], n_steps=1)  # of the same shapes
    words = rf"^tuned was tuned on base model {revision(base)}, and other is {revision(other)}; train it anew$"
    with pytest.raises(Mistake, match=words):
        Local(other, Path("tuned"))
    with pytest.raises(Mistake, match=words):
        tune(other, pairs, "again", start=Path("tuned"), lora=lora)


def test_an_adapter_whose_shapes_do_not_fit_is_refused_in_one_line(base: Path, pairs: Path) -> None:
    tune(base, pairs, "tuned", lora=LORA)
    Path("tuned/base.json").unlink()  # as in an adapter from elsewhere
    tokenizer = open_tokenizer(base)
    new_network(tokenizer, 32, 2, 0).save_pretrained("other")
    tokenizer.save_pretrained("other")
    with pytest.raises(
        Mistake, match=r"^tuned: this adapter does not fit the base model; train it anew \(.*size mismatch"
    ):
        open_model(Path("other"), Path("tuned"))


def test_a_start_that_is_no_adapter_needs_all_weights_and_an_adapter_lora(base: Path, pairs: Path) -> None:
    for name, lora, other, found in (("full", None, LORA, "no adapter"), ("small", LORA, None, "an adapter")):
        tune(base, pairs, name, lora=lora)
        with pytest.raises(Mistake, match=rf"^train: {name} is {found}, and train\.lora is "):
            tune(base, pairs, "tuned", start=Path(name), lora=other)


@contextmanager
def full_disk(n_bytes: int) -> Iterator[None]:
    """No file can grow beyond n_bytes, which programs are told as they are told of a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("place", ["checkpoint", "output"])
def test_a_full_disk_is_told_in_one_line_and_the_old_model_outlives_it(
    base: Path, pairs: Path, often: None, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def killed(*_: Any) -> None:
        raise Stop

    if place == "output":  # the training is done, and its checkpoint is whole
        with monkeypatch.context() as patch, pytest.raises(Stop):
            patch.setattr(training, "save", killed)
            tune(base, pairs, "tuned")
    Path("tuned").mkdir()
    Path("tuned/old").write_text("the model of an earlier run")
    with pytest.raises(Mistake) as caught, full_disk(200_000):  # the weights take more
        tune(base, pairs, "tuned")
    assert re.match(
        r"train: the disk of \.work/train/\S+ or of the outputs is full \(.*\); make room", str(caught.value)
    )
    assert "\n" not in str(caught.value)
    assert [path.name for path in Path("tuned").iterdir()] == ["old"]
    for name in ("tuned", "whole"):
        tune(base, pairs, name)
    assert_same("tuned", "whole")
