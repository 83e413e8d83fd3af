"""Any causal model goes the same way: a tiny random Llama with a chat template of its own, saved and loaded."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dartune.checkpoint import location, open_model, open_tokenizer, prompt_ids, revision
from dartune.embedded import make_base, new_network, plain, train_tokenizer
from dartune.generation import Sampling
from dartune.journal import write
from dartune.local import Local
from dartune.mistake import Mistake
from dartune.pairs import write_pairs
from dartune.pool import write_pool
from dartune.task import Task
from dartune.training import new_trainer, write_tuned

TASK = "tsp_construct"
CHAT = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]\n"
    "{{ message.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
EMBEDDED = {
    "model": "embedded",
    "revision": None,
    "tasks": ["admissible_set", TASK],
    "seed": 0,
    "n_programs": 40,
    "n_rewritings": 20,
    "n_epochs": 1,
    "batch_size": 16,
    "learning_rate": 0.003,
    "vocabulary": 500,
    "width": 64,
    "n_layers": 2,
}
TRAIN: dict[str, Any] = {
    "seed": 0,
    "beta": 0.1,
    "loss_type": ["sigmoid"],
    "loss_weights": [1.0],
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "max_length": 1024,
}
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"}


def corpus(task: str, n: int, seed: int) -> list[str]:
    return [lesson.answer for lesson in plain(task, n, seed)]


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder: random weights, another chat template."""
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = train_tokenizer([*corpus(TASK, 100, 0), Task(TASK).prompt], 500)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    new_network(tokenizer, 64, 2, 0).save_pretrained(folder)
    return folder


@pytest.fixture
def base(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_base(Path("base"), Path("base.json"), **EMBEDDED | {"model": str(llama)})
    return Path("base")


def programs(n: int) -> pa.Table:
    """A scored pool of n programs from the grammar; the score is the position."""
    texts = corpus(TASK, n, 3)
    ids = [f"p{i}" for i in range(n)]
    return pa.table(
        {
            "id": ids,
            "task": [TASK] * n,
            "prompt": [Task(TASK).prompt] * n,
            "completion": texts,
            "score": list(map(float, range(n))),
        }
    )


@pytest.fixture
def pairs(base: Path) -> Path:
    write(programs(40), Path("scored.parquet"))
    drawn = [
        {"pair": i, "strategy": "dar", "chosen": f"p{20 + i}", "rejected": f"p{i}", "is_flipped": False}
        | {"chosen_subset": 1, "rejected_subset": 3}
        for i in range(20)
    ]
    write(pa.Table.from_pylist(drawn), Path("sample.parquet"))
    inputs = (Path("sample.parquet"), Path("scored.parquet"), base)
    write_pairs(TASK, *inputs, Path("pairs.parquet"), held_out=0.2, seed=0)
    return Path("pairs.parquet")


def trainer(base: Path, pairs: Path, n_steps: int, lora: dict[str, Any] | None = None) -> Any:
    rows = pq.read_table(pairs).to_pylist()
    return new_trainer("test", rows, base, Path("work"), TRAIN | {"max_steps": n_steps, "num_train_epochs": 1}, lora)


def test_a_local_folder_becomes_a_pointer_and_not_a_copy(base: Path, llama: Path) -> None:
    assert [path.name for path in base.iterdir()] == ["source.json"]
    assert location(base)["pretrained_model_name_or_path"] == str(llama)
    assert json.loads(Path("base.json").read_text())["model"] == str(llama)


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"'\./none' is no folder"):
        make_base(tmp_path / "base", tmp_path / "base.json", **EMBEDDED | {"model": "./none"})


def test_the_prompt_goes_through_the_models_own_chat_template(base: Path) -> None:
    tokenizer = open_tokenizer(base)
    assert tokenizer.decode(prompt_ids(tokenizer, "Hello")) == "<s>[user]\nHello</s>\n[assistant]\n"


def test_a_pool_is_written_in_the_same_way_twice_and_otherwise_with_another_seed(base: Path) -> None:
    rules = Path("rules.json")
    rules.write_text("{}")
    settings = {"n_programs": 6, "batch_size": 4, "temperature": 1.0, "top_p": 0.95, "max_new_tokens": 8}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        outputs = Path(f"{name}.parquet"), Path(f"{name}.json")
        write_pool(TASK, rules, {}, *outputs, source=str(base), method="sample", seed=seed, **settings)
    assert Path("one.parquet").read_bytes() == Path("same.parquet").read_bytes()
    one, other = pq.read_table("one.parquet"), pq.read_table("other.parquet")
    assert len(one) == 6 and len(set(one["id"].to_pylist())) == 6
    assert one["completion"] != other["completion"]
    assert set(one["model"].to_pylist()) == {revision(base)}


def test_batches_do_not_repeat_each_other(base: Path) -> None:
    local, sampling = Local(base), Sampling(temperature=1.0, top_p=1.0, max_new_tokens=12)
    texts = [c.text for seed in (1, 2) for c in local.complete(["x"] * 4, seed=seed, sampling=sampling)]
    assert len(set(texts)) == 8


def test_pairs_hold_what_the_model_reads_and_writes_and_where_it_comes_from(base: Path, pairs: Path) -> None:
    row = pq.read_table(pairs).to_pylist()[4]
    completions = corpus(TASK, 40, 3)
    assert row["prompt"] == [{"role": "user", "content": Task(TASK).prompt}]
    assert row["chosen"] == [{"role": "assistant", "content": completions[24]}]
    assert row["rejected"] == [{"role": "assistant", "content": completions[4]}]
    assert (row["chosen_id"], row["rejected_id"], row["margin"]) == ("p24", "p4", 20.0)
    assert sum(row["is_held_out"] for row in pq.read_table(pairs).to_pylist()) == 4  # a fifth of 20


def test_trl_trains_on_the_prompt_and_the_completions_as_the_model_writes_them(base: Path, pairs: Path) -> None:
    rows = [row for row in pq.read_table(pairs).to_pylist() if not row["is_held_out"]]
    tokenizer = open_tokenizer(base)
    tokenized = trainer(base, pairs, 1).train_dataset
    assert len(tokenized) == len(rows) == 16
    for row, example in zip(rows, tokenized, strict=True):
        assert example["prompt_ids"] == prompt_ids(tokenizer, Task(TASK).prompt)
        written = tokenizer(row["chosen"][0]["content"] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        assert example["chosen_ids"][: len(written)] == written
        assert len(example["chosen_ids"]) == row["chosen_tokens"]


def test_before_the_first_step_the_dpo_loss_is_log_two(base: Path, pairs: Path) -> None:
    # the policy is the reference, so all rewards are 0 and -log(sigmoid(0)) = log 2
    figures = trainer(base, pairs, 1).evaluate()
    assert figures["eval_loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert figures["eval_rewards/margins"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "LoRA"])
def test_after_two_steps_every_trainable_weight_has_changed(
    base: Path, pairs: Path, lora: dict[str, Any] | None
) -> None:
    this = trainer(base, pairs, 2, lora)
    weights = {name: p.detach().clone() for name, p in this.model.named_parameters() if p.requires_grad}
    assert weights and all(("lora" in name) == bool(lora) for name in weights)
    this.train()
    same = [name for name, p in this.model.named_parameters() if name in weights and p.equal(weights[name])]
    assert same == []


def test_an_adapter_leaves_the_base_as_it_was(base: Path, pairs: Path) -> None:
    import torch

    this = trainer(base, pairs, 2, LORA)
    this.train()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad(), this.model.disable_adapter():
        assert this.model(ids).logits.equal(open_model(base)(ids).logits)


class Stop(Exception):
    pass


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "LoRA"])
def test_an_interrupted_training_ends_with_the_weights_of_an_undisturbed_one(
    base: Path, pairs: Path, lora: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dartune import training
    from dartune.curve import Progress

    monkeypatch.setattr(training, "SAVE_STEPS", 5)
    files = {name: (Path(name), Path(f"{name}.json"), Path(f"{name}.csv")) for name in ("whole", "stopped")}
    options = TRAIN | {"num_train_epochs": 2, "lora": lora}
    write_tuned(TASK, pairs, base, *files["whole"], **options)

    def stop_at_7(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 7:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Progress, "on_step_end", stop_at_7)
        write_tuned(TASK, pairs, base, *files["stopped"], **options)
    assert not Path("stopped").exists()
    write_tuned(TASK, pairs, base, *files["stopped"], **options)
    weights = "adapter_model.safetensors" if lora else "model.safetensors"
    assert Path("stopped", weights).read_bytes() == Path("whole", weights).read_bytes()
    assert Path("stopped.json").read_text() == Path("whole.json").read_text()
    assert Path("stopped.csv").read_text() == Path("whole.csv").read_text()


def test_the_tuned_model_is_opened_for_evaluation_with_what_it_learnt(base: Path, pairs: Path) -> None:
    import torch

    for name, lora in (("weights", None), ("adapter", LORA)):
        write_tuned(TASK, pairs, base, Path(name), Path("m.json"), Path("p.csv"), **TRAIN, lora=lora)
        ids = torch.tensor([[5, 6, 7, 8]])
        with torch.no_grad():
            assert not torch.allclose(open_model(base, Path(name))(ids).logits, open_model(base)(ids).logits)


def test_pairs_that_are_too_long_are_named_and_all_too_long_is_refused(base: Path, pairs: Path) -> None:
    rows = pq.read_table(pairs).to_pylist()
    lengths = sorted(row["prompt_tokens"] + max(row["chosen_tokens"], row["rejected_tokens"]) for row in rows)
    options = TRAIN | {"max_length": lengths[-3], "lora": LORA}
    write_tuned(TASK, pairs, base, Path("tuned"), Path("m.json"), Path("p.csv"), **options)
    n_longer = sum(length > lengths[-3] for length in lengths)
    too_long = json.loads(Path("m.json").read_text())["too_long"]
    assert len(too_long) == n_longer > 0 and set(too_long) <= {row["pair"] for row in rows}
    with pytest.raises(Mistake, match=r"all 20 pairs of tsp_construct are longer than train\.max_length = 10 tokens"):
        write_tuned(TASK, pairs, base, Path("t"), Path("m.json"), Path("p.csv"), **options | {"max_length": 10})


def test_the_embedded_model_is_trained_saved_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        make_base(Path(name), Path(f"{name}.json"), **EMBEDDED)
    assert Path("one/model.safetensors").read_bytes() == Path("two/model.safetensors").read_bytes()
    metrics = json.loads(Path("one.json").read_text())
    assert set(metrics["n_programs"]) == {"admissible_set", TASK}
    tokenizer = open_tokenizer(Path("one"))
    assert tokenizer.decode(prompt_ids(tokenizer, Task(TASK).prompt)) == f"<s>{Task(TASK).signature}<program>"
    texts = [text for task in metrics["n_programs"] for text in corpus(task, 30, 1)]
    assert [tokenizer.decode(tokenizer(text)["input_ids"]) for text in texts] == texts


def test_the_committed_base_model_is_small_and_writes_programs() -> None:
    folder = Path(__file__).parents[1] / "models/base"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 3_000_000
    sampling = Sampling(temperature=1.0, top_p=0.95, max_new_tokens=256)
    texts = Local(folder).complete([Task(TASK).prompt] * 8, seed=0, sampling=sampling)
    assert all(text.finish == "stop" and text.text.count("def select_next_node(") == 1 for text in texts)
