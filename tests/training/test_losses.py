"""What TRL is given of a pair, what its losses come to, and which weights move."""

import math
from pathlib import Path
from typing import Any, get_args

import pytest

from dartune.models.checkpoint import open_model
from dartune.referee.referee import Referee
from dartune.training.trainers import ONLINE, TRAINERS, Loss
from eight_word_model import LEARNT, LN2, TURNS, answer_with, word_rows, write_word_model
from small_llama import (
    LORA,
    rows_of,
    trainer,
    tune,
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
    ids = [example[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    assert ids == [prompt, [6, 2], [7, 2]]
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
