"""Any causal model goes the same way: a tiny random Llama with a chat template of its own, saved and loaded."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dartune.base_model.base import write_base
from dartune.base_model.embedded import write_embedded
from dartune.errors import UserError
from dartune.models.backend import Decoding
from dartune.models.checkpoint import open_model, open_tokenizer, pretrained_arguments, prompt_ids, revision
from dartune.models.host import PLAIN
from dartune.models.transformers_backend import TransformersBackend
from dartune.pool.pool import write_pool
from dartune.tasks.task import Task
from dartune.training.trainers import n_tokens
from small_llama import (
    EMBEDDED,
    LORA,
    TASK,
    corpus,
    rows_of,
    trainer,
    tune,
)


@pytest.fixture
def base(random_base: Path) -> Path:
    return random_base


def test_a_local_folder_becomes_a_pointer_and_not_a_copy(base: Path, random_llama: Path) -> None:
    assert sorted(path.name for path in base.iterdir()) == ["run.json", "source.json"]
    assert pretrained_arguments(base)["pretrained_model_name_or_path"] == str(random_llama)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'\./none' is no folder"):
        write_base(
            *(tmp_path / "base", tmp_path / "unused"),
            **{"model": "./none", "revision": None, **PLAIN},
        )


def test_the_prompt_goes_through_the_models_own_chat_template(base: Path) -> None:
    tokenizer = open_tokenizer(base)
    assert tokenizer.decode(prompt_ids(tokenizer, "Hello")) == "<s>[user]\nHello</s>\n[assistant]\n"


def test_a_pool_is_equal_for_equal_seeds_and_different_for_another(base: Path) -> None:
    limits = Path("limits.json")
    limits.write_text("{}")
    settings = {
        "n_searches": 1,
        "n_programs": 6,
        "batch_size": 4,
        "temperature": 1.0,
        "top_p": 0.95,
        "max_new_tokens": 8,
    }
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        outputs = Path(f"{name}.parquet"), Path(f"{name}.json")
        write_pool(TASK, limits, {}, *outputs, source=str(base), method="independent", seed=seed, **settings)
    assert Path("one.parquet").read_bytes() == Path("same.parquet").read_bytes()
    one, other = pq.read_table("one.parquet"), pq.read_table("other.parquet")
    assert len(one) == 6 and len(set(one["id"].to_pylist())) == 6
    assert one["completion"] != other["completion"]
    assert set(one["model"].to_pylist()) == {revision(base)}


def test_batches_do_not_repeat_each_other(base: Path) -> None:
    local, decoding = TransformersBackend(base), Decoding(temperature=1.0, top_p=1.0, max_new_tokens=12)
    texts = [c.text for seed in (1, 2) for c in local.complete(["x"] * 4, seed=seed, decoding=decoding)]
    assert len(set(texts)) == 8


def test_pairs_hold_texts_in_the_models_form_and_the_ids_of_programs(base: Path, pairs: Path) -> None:
    row = rows_of(pairs)[4]
    completions = corpus(TASK, 40, 3)
    assert row["prompt"] == [{"role": "user", "content": Task(TASK).prompt}]
    assert row["chosen"] == [{"role": "assistant", "content": completions[24]}]
    assert row["rejected"] == [{"role": "assistant", "content": completions[4]}]
    assert (row["chosen_id"], row["rejected_id"], row["margin"]) == ("p24", "p4", 20.0)
    assert sum(row["is_held_out"] for row in rows_of(pairs)) == 4  # a fifth of 20


def test_trl_trains_on_prompts_and_completions_as_the_model_writes_them(base: Path, pairs: Path) -> None:
    rows = [row for row in rows_of(pairs) if not row["is_held_out"]]
    tokenizer = open_tokenizer(base)
    rows.sort(key=n_tokens, reverse=True)
    tokenized = trainer(base, rows_of(pairs)).train_dataset
    assert len(tokenized) == len(rows) == 16
    for row, example in zip(rows, tokenized, strict=True):
        assert example["prompt_ids"] == prompt_ids(tokenizer, Task(TASK).prompt)
        written = tokenizer(row["chosen"][0]["content"] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        assert example["chosen_ids"][: len(written)] == written
        assert len(example["chosen_ids"]) == row["chosen_tokens"]


def test_the_tuned_model_is_opened_for_evaluation_with_what_it_learnt(base: Path, pairs: Path) -> None:
    import torch

    for name, lora in (("weights", None), ("adapter", LORA)):
        tune(base, pairs, name, lora=lora)
        ids = torch.tensor([[5, 6, 7, 8]])
        with torch.no_grad():
            assert not torch.allclose(open_model(base, Path(name))(ids).logits, open_model(base)(ids).logits)


def test_the_embedded_model_is_trained_saved_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        write_embedded(Path(name), Path(f"{name}.json"), **EMBEDDED)
    assert Path("one/model.safetensors").read_bytes() == Path("two/model.safetensors").read_bytes()
    metrics = json.loads(Path("one.json").read_text())
    assert set(metrics["n_programs"]) == {"admissible_set", TASK}
    tokenizer = open_tokenizer(Path("one"))
    assert tokenizer.decode(prompt_ids(tokenizer, Task(TASK).prompt)) == f"<s>{Task(TASK).signature}<program>"
    texts = [text for task in metrics["n_programs"] for text in corpus(task, 30, 1)]
    assert [tokenizer.decode(tokenizer(text)["input_ids"]) for text in texts] == texts


def test_the_committed_base_model_is_small_and_writes_programs() -> None:
    folder = Path(__file__).parents[2] / "models/embedded"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 3_000_000
    decoding = Decoding(temperature=1.0, top_p=0.95, max_new_tokens=256)
    texts = TransformersBackend(folder).complete([Task(TASK).prompt] * 8, seed=0, decoding=decoding)
    assert all(text.finish == "stop" and text.text.count("def select_next_node(") == 1 for text in texts)
