"""Training: what TRL is given, what it does with it, and that no training is lost, not probed or silently spoilt."""

import json
import math
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dartune.base_model.base import new_network, train_tokenizer
from dartune.errors import UserError
from dartune.models.checkpoint import open_model, open_tokenizer, revision
from dartune.models.transformers_backend import TransformersBackend
from dartune.referee.referee import Referee
from dartune.training import train, trainers
from dartune.training.progress import Progress
from dartune.training.trainers import ONLINE, TRAINERS, Loss
from eight_word_model import LEARNT, LN2, TURNS, answer_with, word_rows, write_word_model
from small_llama import (
    CHAT,
    DROPOUT,
    LAST,
    LORA,
    PROBED,
    TASK,
    TERSE,
    UNPROBED,
    corpus,
    curves,
    rows_of,
    trainer,
    tune,
    weights,
    write_llama,
    write_some_pairs,
    write_taught,
)

pytestmark = pytest.mark.usefixtures("trl_imported")


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
def test_a_dpo_loss_is_what_its_formula_gives_by_hand(eight_words: Path, options: dict[str, Any], loss: float) -> None:
    this = trainer(eight_words, word_rows(True), **options)
    answer_with(this.model, LEARNT)
    figures = this.evaluate()
    assert figures["eval_loss"] == pytest.approx(loss, abs=1e-5)
    assert figures["eval_rewards/margins"] == pytest.approx(options["beta"] * 2 * LN2, abs=1e-5)


def test_before_the_first_step_the_dpo_loss_is_log_two_plus_the_sft_term(eight_words: Path) -> None:
    # the policy is the reference: all rewards are 0 and -ln sigmoid(0) = ln 2; every word has 1/8, so sft is ln 8
    assert trainer(eight_words, word_rows(True)).evaluate()["eval_loss"] == pytest.approx(LN2, abs=1e-5)
    options = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.1]}
    assert trainer(eight_words, word_rows(True), **options).evaluate()["eval_loss"] == pytest.approx(
        1.3 * LN2, abs=1e-5
    )


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


def test_sft_learns_the_chosen_answer_alone(eight_words: Path) -> None:
    this = trainer(eight_words, word_rows(True), "sft")
    (example,) = this.train_dataset
    assert example["input_ids"] == [1, 3, 5, 2, 4, 6, 2]
    answer_with(this.model, LEARNT)
    assert this.evaluate()["eval_loss"] == pytest.approx(1.5 * LN2, abs=1e-5)  # as above; the prompt does not count


@pytest.mark.parametrize("name", get_args(Loss))
def test_every_loss_that_can_be_named_runs_and_moves_the_weights(eight_words: Path, name: str) -> None:
    this = trainer(eight_words, word_rows(True), loss_type=[name], label_smoothing=0.1)
    this.train()
    assert math.isfinite(this.state.log_history[-1]["train_loss"])
    assert this.model.lm_head.weight.abs().max() > 0  # it was 0


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
    "dpo, probed": (6, {"probe": PROBED, "options": {"num_train_epochs": 2}}),
    "dpo, probed and rolled back": (
        6,
        {"probe": PROBED | {"on_warning": "roll_back", "max_chosen_drop": 250.0}, "options": {"num_train_epochs": 2}},
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


def test_a_training_shorter_than_a_log_step_has_a_curve_too(base: Path, pairs: Path) -> None:
    tune(base, pairs, "short", options={"num_train_epochs": 0.5})
    assert json.loads(Path("short.json").read_text())["steps"] == 2 < trainers.LOG_STEPS
    assert any(name.endswith("loss.tsv") for name in curves("short"))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from dartune.training import trainers
from dartune.training.progress import Progress
from small_llama import tune

def on_step_end(self, args, state, control, **_):
    if state.global_step == 6:
        os.kill(os.getpid(), signal.SIGKILL)

trainers.SAVE_STEPS, trainers.LOG_STEPS, Progress.on_step_end = 4, 2, on_step_end
tune(Path("base"), Path("pairs.parquet"), "killed", options={"num_train_epochs": 2})
"""


def test_a_killed_process_leaves_the_old_model_and_a_rerun_replaces_it(base: Path, pairs: Path, often: None) -> None:
    Path("killed").mkdir()
    Path("killed/old").write_text("the model of an earlier run")
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1])]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert [path.name for path in Path("killed").iterdir()] == ["old"]
    for name in ("killed", "whole"):
        tune(base, pairs, name, options={"num_train_epochs": 2})
    assert not Path("killed/old").exists()
    assert_same("killed", "whole")


# What ends a training early must end it again, when the run was killed after that: while it saved the model, say.
ENDED: dict[str, tuple[bool, dict[str, Any]]] = {
    "patience": (True, {"patience": 1}),
    "a warning": (True, {"probe": UNPROBED | {"n_times": 5, "on_warning": "stop", "max_chosen_drop": 0.0}}),
    "the last step": (False, {}),
}


@pytest.mark.parametrize(("is_early", "settings"), ENDED.values(), ids=ENDED)
def test_a_training_killed_after_its_end_does_not_go_on_training(
    base: Path, pairs: Path, often: None, monkeypatch: pytest.MonkeyPatch, is_early: bool, settings: dict[str, Any]
) -> None:
    def killed(*_: Any) -> None:
        raise Stop

    settings = settings | {"options": {"num_train_epochs": 5, "learning_rate": 0.05}}
    tune(base, pairs, "whole", **settings)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(train, "record", killed)
        tune(base, pairs, "stopped", **settings)
    tune(base, pairs, "stopped", **settings)
    assert_same("stopped", "whole")
    assert (json.loads(Path("whole.json").read_text())["steps"] < 20) == is_early


def test_patience_stops_and_keeps_the_model_of_the_lowest_held_out_loss(base: Path, pairs: Path, often: None) -> None:
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


@pytest.mark.parametrize("method", TRAINERS)
def test_a_training_that_diverges_ends_with_one_line_and_loses_nothing(base: Path, pairs: Path, method: str) -> None:
    Path("tuned").mkdir()
    Path("tuned/old").write_text("the model of an earlier run")
    more = {"n_completions": 16} if method in ONLINE else {}
    with pytest.raises(UserError) as caught:
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
    with pytest.raises(
        UserError, match=r"^train: a weight is not finite at step 1; lower the trainer's learning_rate or"
    ):
        tune(base, pairs, "tuned", method="grpo", options={"learning_rate": 1e39, "n_completions": 4})
    assert not Path("tuned").exists()


def test_a_probed_training_that_diverges_ends_with_one_line(base: Path, pairs: Path) -> None:
    with pytest.raises(
        UserError, match=r"^train: the model's probabilities are not finite at step [12]; lower the trainer's"
    ):
        tune(base, pairs, "tuned", probe=PROBED, options={"learning_rate": 1e30})


def test_pairs_that_are_too_long_are_named_and_all_too_long_is_refused(base: Path, pairs: Path) -> None:
    rows = rows_of(pairs)
    lengths = sorted(row["prompt_tokens"] + max(row["chosen_tokens"], row["rejected_tokens"]) for row in rows)
    tune(base, pairs, "tuned", max_length=lengths[-3])
    too_long = json.loads(Path("tuned.json").read_text())["too_long"]
    assert len(too_long) == sum(length > lengths[-3] for length in lengths) > 0
    assert set(too_long) <= {row["pair"] for row in rows}
    with pytest.raises(UserError, match=r"all 20 pairs of tsp_construct are longer than train\.max_length = 10 tokens"):
        tune(base, pairs, "other", max_length=10)


def test_no_pairs_and_only_held_out_pairs_are_refused(base: Path, pairs: Path) -> None:
    table = pq.read_table(pairs)
    pq.write_table(table.slice(0, 0), "none.parquet")
    with pytest.raises(
        UserError, match=r"^train: there are no pairs of tsp_construct; raise sample\.n_pairs or pool\.n_pr"
    ):
        tune(base, Path("none.parquet"), "tuned")
    pq.write_table(table.filter(pc.field("is_held_out")), "held.parquet")
    with pytest.raises(UserError, match=r"^train: all 4 pairs of tsp_construct are held out; lower pairs\.held_out"):
        tune(base, Path("held.parquet"), "tuned")


def test_patience_without_a_held_out_loss_is_refused(base: Path, pairs: Path) -> None:
    for method in ONLINE:
        with pytest.raises(
            UserError, match=rf"^train\.patience is 3: {method} has no held-out loss to look at; set it to"
        ):
            tune(base, pairs, "tuned", method=method, patience=3)
    pq.write_table(pq.read_table(pairs).filter(~pc.field("is_held_out")), "none.parquet")
    with pytest.raises(
        UserError, match=r"^train\.patience is 3, and no pair of tsp_construct is held out; raise pairs"
    ):
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
        with pytest.raises(UserError, match=words):
            tune(model, made, "tuned")


def test_pairs_of_another_tokenizer_are_refused(base: Path, pairs: Path, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(corpus(TASK, 30, 9), 400)
    tokenizer.chat_template = TERSE
    other = write_llama(Path("other"))
    tokenizer.save_pretrained(other)
    with pytest.raises(UserError, match="was made for another model than other; run stage pairs again"):
        tune(other, pairs, "tuned")


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "LoRA"])
def test_a_model_tuned_on_another_base_is_refused(base: Path, pairs: Path, lora: dict[str, Any] | None) -> None:
    tune(base, pairs, "tuned", lora=lora)
    assert TransformersBackend(base, Path("tuned")).model is not None
    other = write_taught(Path("other"), [LAST], n_steps=1)  # of the same shapes
    words = rf"^tuned was tuned on base model {revision(base)}, and other is {revision(other)}; train it anew$"
    with pytest.raises(UserError, match=words):
        TransformersBackend(other, Path("tuned"))
    with pytest.raises(UserError, match=words):
        tune(other, pairs, "again", start=Path("tuned"), lora=lora)


def test_an_adapter_whose_shapes_do_not_fit_is_refused_in_one_line(base: Path, pairs: Path) -> None:
    tune(base, pairs, "tuned", lora=LORA)
    Path("tuned/base.json").unlink()  # as in an adapter from elsewhere
    tokenizer = open_tokenizer(base)
    new_network(tokenizer, 32, 2, 0).save_pretrained("other")
    tokenizer.save_pretrained("other")
    with pytest.raises(
        UserError, match=r"^tuned: this adapter does not fit the base model; train it anew \(.*size mismatch"
    ):
        open_model(Path("other"), Path("tuned"))


def test_a_start_that_is_no_adapter_needs_all_weights_and_an_adapter_lora(base: Path, pairs: Path) -> None:
    for name, lora, other, found in (("full", None, LORA, "no adapter"), ("small", LORA, None, "an adapter")):
        tune(base, pairs, name, lora=lora)
        with pytest.raises(UserError, match=rf"^train: {name} is {found}, and train\.lora is "):
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
            patch.setattr(train, "save", killed)
            tune(base, pairs, "tuned")
    Path("tuned").mkdir()
    Path("tuned/old").write_text("the model of an earlier run")
    with pytest.raises(UserError) as caught, full_disk(200_000):  # the weights take more
        tune(base, pairs, "tuned")
    assert re.match(
        r"train: the disk of \.work/train/\S+ or of the outputs is full \(.*\); make room", str(caught.value)
    )
    assert "\n" not in str(caught.value)
    assert [path.name for path in Path("tuned").iterdir()] == ["old"]
    for name in ("tuned", "whole"):
        tune(base, pairs, name)
    assert_same("tuned", "whole")
