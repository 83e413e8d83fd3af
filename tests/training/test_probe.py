"""Probes of a training: what is measured on the way, when it warns, and what a warning does."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from dartune.models.backend import Decoding, start_seed
from dartune.models.checkpoint import open_model, open_tokenizer
from dartune.models.host import PLAIN, write_run
from dartune.models.transformers_backend import TransformersBackend
from dartune.referee.referee import Referee
from dartune.tasks.task import Task
from dartune.training import callbacks
from dartune.training.probe import BATCH, SAMPLED, Probe, log_probabilities, warnings_of
from eight_word_model import LEARNT, LN2, answer_with, word_rows
from small_llama import (
    BROKEN,
    DROPOUT,
    FIRST,
    LAST,
    LORA,
    NONE,
    PROBED,
    TASK,
    UNPROBED,
    curves,
    quality,
    rows_of,
    tune,
    weights,
    write_some_pairs,
)

pytestmark = pytest.mark.usefixtures("trl_imported")


def test_log_probabilities_are_those_of_the_answer_alone(eight_words: Path) -> None:
    model = open_model(eight_words)
    answer_with(model, LEARNT)
    # ln(1/2 * 1/4); ln(1/8 * 1/4) of a shorter text, which is padded; ln(1/4) of the end alone
    texts = [([1, 3, 5, 2, 4, 6, 2], 5), ([5, 7, 2], 1), ([5, 7, 2], 2)]
    assert log_probabilities(model, texts) == pytest.approx([-3 * LN2, -5 * LN2, -2 * LN2], abs=1e-5)


def test_log_probabilities_in_batches_are_those_of_a_plain_loop(taught_llama: Path) -> None:
    import torch

    model, rng = open_model(taught_llama).eval(), Random(0)
    texts = [([rng.randrange(300) for _ in range(rng.randint(4, 30))], rng.randint(1, 3)) for _ in range(BATCH + 5)]

    def one(ids: list[int], start: int) -> float:
        with torch.no_grad():
            scores = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return sum(float(scores[place - 1, ids[place]]) for place in range(start, len(ids)))

    assert log_probabilities(model, texts) == pytest.approx([one(*text) for text in texts], rel=1e-5)


@pytest.fixture(scope="module")
def validation() -> Iterator[Referee]:
    with Referee(Task(TASK), "validation", max_slowdown=1000, memory_mib=512) as referee:
        yield referee


DRAWN = Decoding(temperature=1.0, top_p=0.9, max_new_tokens=32)


def probe(base: Path, referee: Referee, held_out: list[dict[str, Any]], **changes: Any) -> Probe:
    config: Any = UNPROBED | {"n_samples": 40} | changes
    return Probe(referee, base, held_out, config, DRAWN, 3)


def test_the_samples_figures_are_those_of_the_answers_written(taught_llama: Path, validation: Referee) -> None:
    model, seed = open_model(taught_llama), start_seed("watch", TASK, 3)
    backend = TransformersBackend.from_loaded(model.eval(), open_tokenizer(taught_llama))
    answers = backend.complete([Task(TASK).prompt] * 40, seed=seed, decoding=DRAWN)
    texts = [answer.text for answer in answers]
    n_first, n_last = texts.count(FIRST), texts.count(LAST)
    assert min(n_first, n_last, texts.count(BROKEN), texts.count(NONE)) > 0
    assert n_first + n_last + texts.count(BROKEN) + texts.count(NONE) == 40  # nothing that we do not know
    figures = probe(taught_llama, validation, []).measure(model.train())
    assert model.training  # as it was
    assert figures == {
        "validity": (n_first + n_last) / 40,
        "mean": pytest.approx((n_first * quality(0, "validation") + n_last * quality(-1, "validation")) / 40, abs=1e-6),
        "distinct_behaviours": 2 / 40,
        "equal_to_template": n_first / 40,  # the template goes to the nearest city
        "mean_tokens": sum(answer.n_tokens for answer in answers) / 40,
    }


def test_an_ignorant_model_gives_all_tokens_the_same_probability(base: Path, pairs: Path, validation: Referee) -> None:
    import torch

    held_out = [row for row in rows_of(pairs) if row["is_held_out"]]
    model, this = open_model(base), probe(base, validation, held_out, n_samples=2, remember=["admissible_set", TASK])
    this.measure(model)  # the start, against which margins are taken
    with torch.no_grad():
        model.lm_head.weight.zero_()
    figures, nats = this.measure(model), math.log(model.config.vocab_size)
    assert figures["loss_elsewhere"] == pytest.approx(nats, abs=1e-5)
    assert len(this.texts) == 32  # of admissible_set alone: what the training is about is no other task
    for side in ("chosen", "rejected"):
        n_tokens = [row[f"{side}_tokens"] for row in held_out]
        assert figures[side] == pytest.approx(-nats * sum(n_tokens) / len(n_tokens), rel=1e-5)


def test_the_margin_is_how_much_more_the_chosen_gained_since_the_start(eight_words: Path, validation: Referee) -> None:
    this, model = probe(eight_words, validation, word_rows(True), n_samples=1), open_model(eight_words)
    this.template_ids = this.pairs[0]["chosen"]  # no program can be said in eight words
    assert this.measure(model)["margin"] == 0
    answer_with(model, LEARNT)
    figures = this.measure(model)
    assert (figures["chosen"], figures["rejected"]) == pytest.approx((-3 * LN2, -5 * LN2), abs=1e-5)
    assert (figures["margin"], figures["accuracy"]) == pytest.approx((2 * LN2, 1.0), abs=1e-5)  # ln 8 - ln 2, as above


def test_an_adapter_writes_what_the_saved_and_merged_model_writes(base: Path, pairs: Path, validation: Referee) -> None:
    tune(base, pairs, "tuned", method="sft", lora=DROPOUT, probe=PROBED | {"n_times": 1})
    measured = json.loads(Path("tuned.json").read_text())["probe"][-1]
    this = Probe(validation, base, [], PROBED, Decoding(1.0, 0.95, 32), 0)  # type: ignore[arg-type]
    figures = this.measure(open_model(base, Path("tuned")).eval())
    assert {name: measured[name] for name in SAMPLED} == {name: figures[name] for name in SAMPLED}


@pytest.mark.parametrize(("method", "options"), [("dpo", {}), ("grpo", {"n_completions": 16})])
def test_a_probed_training_is_the_same_training(base: Path, pairs: Path, method: str, options: dict[str, Any]) -> None:
    for name, config in (("alone", UNPROBED), ("probed", PROBED | {"n_times": 3})):
        tune(base, pairs, name, method=method, lora=DROPOUT, probe=config, options=options)
    assert weights(Path("alone")) == weights(Path("probed"))
    assert curves("alone") == curves("probed")
    probes = json.loads(Path("probed.json").read_text())["probe"]
    assert [entry["step"] for entry in probes] == [
        0,
        1,
        3,
        4,
    ]  # of four steps: before the first, and after 4/3, 8/3, 12/3


BEFORE = {"validity": 0.75, "distinct_behaviours": 0.5, "equal_to_template": 0.25, "mean_tokens": 64.0}
BEFORE |= {"chosen": -8.0, "loss_elsewhere": 1.5}
# Each is exactly at its limit; the numbers are sums of powers of two, so nothing is rounded.
MOVES = [
    ("validity", 0.5, "max_validity_drop", 0.25, "validity fell: validity 0.75 to 0.5 (probe.max_validity_drop"),
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
    ("mean_tokens", 80.0, "max_length_drift", 0.25, "programs changed their length: mean_tokens 64 to 80 (probe.max_l"),
    ("mean_tokens", 48.0, "max_length_drift", 0.25, "programs changed their length: mean_tokens 64 to 48 (probe.max_l"),
    (
        "chosen",
        -10.0,
        "max_chosen_drop",
        2.0,
        "chosen programs became unlikely: chosen -8 to -10 (probe.max_ch",
    ),
    (
        "loss_elsewhere",
        2.0,
        "max_forgetting",
        0.5,
        "other tasks' programs became unlikely: loss_elsewhere 1.5 to 2 (",
    ),
]


@pytest.mark.parametrize(("name", "value", "limit", "bound", "words"), MOVES, ids=[f"{m[0]} {m[1]}" for m in MOVES])
def test_a_figure_warns_beyond_its_limit_and_not_at_it(
    name: str, value: float, limit: str, bound: float, words: str
) -> None:
    now, limits = BEFORE | {name: value}, UNPROBED | {limit: bound}
    assert warnings_of(BEFORE, now, limits) == []  # type: ignore[arg-type]
    (warning,) = warnings_of(BEFORE, now, limits | {limit: bound - 0.001})  # type: ignore[arg-type]
    assert warning.startswith(words)
    better = BEFORE | {name: 2 * BEFORE[name] - value} if name != "mean_tokens" else BEFORE
    assert warnings_of(BEFORE, better, limits | {limit: 0.0}) == []  # type: ignore[arg-type]


# A step of 1.0 on every weight leaves nothing of the model.
COLLAPSE = {"method": "sft", "options": {"learning_rate": 1.0}}
STRICT = PROBED | {"max_validity_drop": 0.05}


def test_a_collapse_is_noted_and_trained_on(base: Path, pairs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tune(base, pairs, "tuned", probe=STRICT, **COLLAPSE)
    metrics = json.loads(Path("tuned.json").read_text())
    assert (metrics["steps"], metrics["kept_step"]) == (4, None)
    assert metrics["probe"][0]["warnings"] == [] and metrics["probe"][1]["warnings"] != []
    assert "warning: validity fell: validity 0." in capfd.readouterr().err


def test_a_collapse_stops_the_training(base: Path, pairs: Path) -> None:
    tune(base, pairs, "tuned", probe=STRICT | {"on_warning": "stop"}, **COLLAPSE)
    metrics = json.loads(Path("tuned.json").read_text())
    assert (metrics["steps"], metrics["kept_step"]) == (1, None)


def test_a_collapse_is_rolled_back_to_the_best_model_before_it(base: Path, pairs: Path) -> None:
    import torch

    tune(base, pairs, "tuned", probe=STRICT | {"on_warning": "roll_back"}, **COLLAPSE)
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
    config = STRICT | {"n_times": 6, "n_samples": 32, "on_warning": "roll_back"}
    tune(base, pairs, "tuned", probe=config, options=options, **growing)
    metrics = json.loads(Path("tuned.json").read_text())
    *good, last = metrics["probe"]
    assert last["warnings"] and not any(entry["warnings"] for entry in good)
    best = max(good, key=lambda entry: entry["mean"])
    assert 0 < metrics["kept_step"] == best["step"] < last["step"] == metrics["steps"] < 6
    rolled_back = open_model(base, Path("tuned")).eval()
    again = Probe(validation, base, [], config, Decoding(1.0, 0.95, 32), 0).measure(rolled_back)  # type: ignore[arg-type]
    assert (again["mean"], again["validity"]) == (best["mean"], best["validity"])


def test_a_checkpoint_waits_until_half_a_minute_after_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now, saved = 0.0, []
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now)
    saving = callbacks.Saving()
    for seconds, is_stopping_early in ((29, False), (1, False), (29, False), (0, True), (1, False), (30, False)):
        now += seconds
        control = SimpleNamespace(should_save=True)
        saving.on_step_end(SimpleNamespace(load_best_model_at_end=is_stopping_early), None, control)
        saved.append(control.should_save)
        if control.should_save:
            saving.on_save(None, None, control)
    # with early stopping each evaluation of the held-out pairs needs its checkpoint
    assert saved == [False, True, False, True, False, True]


def test_an_adapter_of_a_bf16_model_is_probed_while_it_is_trained(base: Path, pairs: Path) -> None:
    write_run(base, **PLAIN | {"dtype": "bfloat16"})
    tune(base, pairs, "tuned", lora=LORA, probe=PROBED | {"n_times": 1})
    looks = json.loads(Path("tuned.json").read_text())["probe"]
    assert [look["step"] for look in looks] == [0, 4]
    assert all(math.isfinite(look["chosen"]) for look in looks)
