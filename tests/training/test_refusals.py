"""Pairs, base models and starts that do not fit a training are refused in one line."""

import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dartune.base_model.embedded import new_network, train_tokenizer
from dartune.errors import UserError
from dartune.models.checkpoint import open_model, open_tokenizer, revision
from dartune.models.transformers_backend import TransformersBackend
from dartune.training.train import refuse_contradictions
from dartune.training.trainers import ONLINE
from small_llama import (
    CHAT,
    LAST,
    LORA,
    PROBED,
    TASK,
    TERSE,
    TRAIN,
    corpus,
    rows_of,
    tune,
    write_llama,
    write_some_pairs,
    write_taught,
)

pytestmark = pytest.mark.usefixtures("trl_imported")


def test_pairs_that_are_too_long_are_named_and_all_too_long_is_refused(base: Path, pairs: Path) -> None:
    rows = rows_of(pairs)
    lengths = sorted(row["prompt_tokens"] + max(row["chosen_tokens"], row["rejected_tokens"]) for row in rows)
    tune(base, pairs, "tuned", max_length=lengths[-3])
    too_long = json.loads(Path("tuned.json").read_text())["too_long"]
    assert len(too_long) == sum(length > lengths[-3] for length in lengths) > 0
    assert set(too_long) <= {row["pair"] for row in rows}
    with pytest.raises(UserError, match=r"all 20 pairs of tsp_construct are longer than train\.max_length, 10 tokens"):
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
    for name, lora, other, kind in (("full", None, LORA, "no adapter"), ("small", LORA, None, "an adapter")):
        tune(base, pairs, name, lora=lora)
        with pytest.raises(UserError, match=rf"^train: {name} is {kind}, and train\.lora is "):
            tune(base, pairs, "tuned", start=Path(name), lora=other)


KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "zero2": ({"method": "grpo"}, "zero2 cannot generate programs, as grpo does; take ddp"),
    "fsdp2": ({"probe": PROBED}, "fsdp2 leaves no process the whole model; set train.probe.n_times: 0"),
    "zero3": ({"load_in": "4bit"}, "zero3 cannot shard 4bit weights; set train.load_in: null or take ddp"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kind_of_processes_cannot_do_is_refused(kind: str) -> None:
    (changes, message), settings = KINDS[kind], TRAIN | {"lora": LORA}
    launch = {"kind": kind, "n_processes": 2, "n_machines": 1}
    with pytest.raises(UserError, match=rf"^train\.launch: {message}"):
        refuse_contradictions(settings | changes | {"launch": launch})
    for other in (launch | {"kind": "ddp"}, None):
        refuse_contradictions(settings | changes | {"launch": other})
    refuse_contradictions(settings | {"launch": launch})
