"""A random or quickly taught Llama of two layers with a chat template, pairs for it, and its training in seconds.

For tests that train, save and load. Where a loss or a margin is to be worked out on paper take eight_word_model.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dartune.base_model.base import write_base
from dartune.base_model.embedded import new_network, plain, train_tokenizer
from dartune.files.parquet import write
from dartune.models.host import PLAIN
from dartune.pairs.pairs import write_pairs
from dartune.referee.referee import Referee
from dartune.tasks.task import Task
from dartune.training.train import Outputs, Sources, new_trainer, write_tuned
from dartune.training.trainers import TrainingInputs, in_turn

TASK = "tsp_construct"
CHAT = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]\n"
    "{{ message.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
EMBEDDED = {
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
RULES = {"version": "", "max_slowdown": 1000, "memory_mib": 512}
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"}
UNPROBED: dict[str, Any] = {
    "n_times": 0,
    "n_samples": 1,
    "split": "validation",
    "on_warning": "note",
    "max_validity_drop": 1.0,
    "max_distinct_drop": 1.0,
    "max_template_rise": 1.0,
    "max_length_drift": 1e9,
    "max_chosen_drop": 1e9,
    "max_forgetting": 1e9,
    "remember": [],
}
PROBED = UNPROBED | {"n_times": 4, "n_samples": 8, "remember": ["admissible_set", TASK]}
DROPOUT = LORA | {"lora_dropout": 0.2}
TRAIN: dict[str, Any] = {
    "method": "dpo",
    "seed": 0,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0.0,
    "max_grad_norm": 1.0,
    "patience": None,
    "max_length": 1024,
    "lora": None,
    "load_in": None,
    "launch": None,
    "report_to": [],
    "temperature": 1.0,
    "top_p": 0.95,
    "max_new_tokens": 32,
    "probe": UNPROBED,
}
BATCHES = {
    "learning_rate": 0.01,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "extra": {},
}
ANSWERS = {"learning_rate": 0.001, "n_completions": 8, "num_generations": 4, "num_iterations": 1, "extra": {}}
OPTIONS: dict[str, dict[str, Any]] = {
    "dpo": BATCHES
    | {
        "beta": 0.1,
        "loss_type": ["sigmoid"],
        "loss_weights": [1.0],
        "label_smoothing": 0.0,
        "f_divergence_type": "reverse_kl",
    },
    "sft": BATCHES,
    "grpo": ANSWERS | {"beta": 0.0, "loss_type": "dapo"},
    "rloo": ANSWERS | {"beta": 0.05},
}


def corpus(task: str, n: int, seed: int) -> list[str]:
    return [lesson.answer for lesson in plain(task, n, seed)]


def write_llama(folder: Path, chat: str | None = CHAT, seed: int = 0) -> Path:
    """A Hugging Face folder: random weights, another chat template than the embedded model's."""
    tokenizer = train_tokenizer([*corpus(TASK, 100, 0), Task(TASK).prompt], 500)
    tokenizer.chat_template = chat
    tokenizer.save_pretrained(folder)
    new_network(tokenizer, 64, 2, seed).save_pretrained(folder)
    return folder


FIRST = "def select_next_node(a, b, c, d):\n    return c[0]"  # the nearest city, as the template
LAST = "def select_next_node(a, b, c, d):\n    return c[-1]"
BROKEN = "def select_next_node(a, b, c, d)\n    return c[0]"
NONE = "return c[0]"
TERSE = (
    "{{ bos_token }}{% for message in messages if message.role == 'assistant' %}"
    "{{ message.content }}{{ eos_token }}{% endfor %}"
)


def write_taught(folder: Path, texts: list[str], n_steps: int = 200) -> Path:
    """A tiny model that reads no prompt, and answers with one of the texts, each as likely as another."""
    import torch

    tokenizer = train_tokenizer(corpus(TASK, 100, 0), 500)
    tokenizer.chat_template = TERSE
    model = new_network(tokenizer, 64, 2, 0)
    batch = tokenizer([f"<s>{text}</s>" for text in texts], return_tensors="pt", padding=True, padding_side="right")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(n_steps):
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def point_to_base(llama: Path) -> Path:
    """The base model's folder here, which points to a model."""
    write_base(Path("base"), Path("unused"), model=str(llama), revision=None, **PLAIN)
    return Path("base")


def programs(texts: list[str]) -> pa.Table:
    """A scored pool of programs p0, p1, ..; the score is the position."""
    n = len(texts)
    columns = {"task": [TASK] * n, "prompt": [Task(TASK).prompt] * n, "completion": texts}
    return pa.table({"id": [f"p{i}" for i in range(n)], **columns, "score": list(map(float, range(n)))})


def write_some_pairs(base: Path, texts: list[str], output: Path = Path("pairs.parquet"), held_out: float = 0.2) -> Path:
    """Pairs of the i-th program of the upper half and the i-th of the lower half."""
    half = len(texts) // 2
    write(programs(texts), Path("scored.parquet"))
    drawn = [
        {"pair": i, "strategy": "dar", "chosen": f"p{half + i}", "rejected": f"p{i}", "is_flipped": False}
        | {"chosen_subset": 1, "rejected_subset": 3}
        for i in range(half)
    ]
    write(pa.Table.from_pylist(drawn), Path("sample.parquet"))
    write_pairs(TASK, Path("sample.parquet"), Path("scored.parquet"), base, output, held_out=held_out, seed=0)
    return output


def trainer(
    base: Path,
    rows: list[dict[str, Any]],
    method: str = "dpo",
    lora: dict[str, Any] | None = None,
    start: Path | None = None,
    referee: Referee | None = None,
    patience: int | None = None,
    **options: Any,
) -> Any:
    """One of TRL's trainers on all rows, at a constant learning rate."""
    settings = TRAIN | {"method": method, "lora": lora, "patience": patience, method: OPTIONS[method] | options}
    return new_trainer(TrainingInputs(TASK, rows, base, start, Path("work"), settings, referee), Path("plots"))


def tune(base: Path, pairs: Path, name: str, start: Path | None = None, **changes: Any) -> Path:
    """Run the stage's function: the tuned model is in folder `name`, its metrics and curves beside it.

    changes: of TRAIN, and `options` of the trainer's.
    """
    section = TRAIN | changes
    changed = section.pop("options", {})
    options = {name: OPTIONS[name] | changed for name in in_turn(section["method"])}
    outputs = Outputs(Path(name), Path(f"{name}.json"), Path(f"{name}-plots"))
    write_tuned(TASK, Sources(pairs, base, start), RULES, options, outputs, **section)
    return Path(name)


def weights(folder: Path) -> bytes:
    """What was trained: the bytes of the weights or of the adapter."""
    (file,) = folder.glob("*.safetensors")
    return file.read_bytes()


def curves(name: str) -> dict[str, str]:
    """The text of each curve's file, by its path."""
    folder = Path(f"{name}-plots")
    return {str(file.relative_to(folder)): file.read_text() for file in sorted(folder.rglob("*.tsv"))}


def rows_of(pairs: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(pairs).to_pylist()
    return rows


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
