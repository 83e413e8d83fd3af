"""A project in which every stage has run once: dvc.yaml as it is, tiny models, invented metrics, DVC's own dvc.lock."""

import json
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from byte_llama import write_byte_llama
from dartune.export.provenance import LOCK, md5
from dartune.files.modules import write_modules
from dartune.models.backend import Decoding

ROOT = Path(__file__).parents[1]
TASK = "tsp_construct"
HUB, REVISION = "acme/tiny", "0123456789abcdef0123456789abcdef01234567"
GREEDY = Decoding(temperature=1.0, top_p=1e-9, max_new_tokens=12)  # the likeliest token alone is drawn from
EXPORTS = ("adapter", "merged", "weights", "still-weights")  # of the fixture `project`
CHAT = "{% for message in messages %}{{ message.content }}{% endfor %}{% if add_generation_prompt %}\n{% endif %}"


def interval(estimate: float, low: float | None, high: float | None) -> dict[str, float | None]:
    return {"estimate": estimate, "low": low, "high": high}


def model_metrics(mean: float, validity: float, top_10: float) -> dict[str, float]:
    return {
        "n_samples": 70,
        "validity": validity,
        "mean": mean,
        "median": 0.5,
        "top_10": top_10,
        "better_than_template": 0.25,
        "equal_to_template": 0.125,
        "distinct_behaviours": 0.75,
        "gap_percent_best": 11.0,
        "gap_percent_top_10": 12.0,
        "gap_percent_median": 13.0,
        "mean_tokens": 99.5,
    }


EVALUATED: dict[str, Any] = {
    "test": {
        "base": model_metrics(0.4012, 0.9, 0.6),
        "tuned": model_metrics(0.4321, 0.8, 0.61),
        "difference": {
            "validity": interval(-0.1, -0.15, -0.05),
            "mean": interval(0.0309, 0.0101, 0.0517),
            "median": interval(0.0, 0.0, 0.0),
            "top_10": interval(0.01, -0.02, 0.04),
        },
    }
}
SEARCHED: dict[str, Any] = {
    "eoh": {
        "n_evaluations": 120,
        "n_seeds": 1,
        "base": {"top_1": 0.7001, "top_10": 0.6},
        "tuned": {"top_1": 0.7101, "top_10": 0.62},
        "difference": {"top_1": interval(0.01, None, None), "top_10": interval(0.02, None, None)},
    }
}
SAMPLED: dict[str, Any] = {"parts": {"dar": 313, "uniform": 7}, "warnings": ["length bias: the longer one wins"]}
SHEET = "# Pairs of tsp_construct\n\n320 pairs\n\n## Pool\n\n| valid programs |\n"
LOOKS = [
    {"step": 0, "validity": 0.97, "mean": 0.41, "warnings": []},
    {"step": 38, "validity": 0.91, "mean": 0.43, "warnings": ["validity fell: validity 0.97 to 0.91"]},
]
TRAINED: dict[str, Any] = {
    "weights": "as they are",
    "earlier": [],
    "n_pairs": 317,
    "too_long": ["a", "b", "c"],
    "settings": {
        "method": "dpo",
        "lora": {"r": 4},
        "dpo": {"beta": 0.123, "learning_rate": 5e-06},
        "probe": {"n_samples": 90, "split": "validation"},
    },
    "steps": 76,
    "last": {},
    "held_out": {"loss": 0.6543},
    "probe": LOOKS,
    "kept_step": None,
}
ONE_ROUND: dict[str, Any] = {"n_rounds": 1, "kept_round": 1, "gates": []}
FILES: dict[str, Any] = {
    f"data/referee/{TASK}/train.json": {"version": "0a1b2c", "max_slowdown": 1000, "memory_mib": 512},
    f"metrics/sample/{TASK}.json": SAMPLED,
    f"metrics/train/{TASK}.json": TRAINED,
    f"metrics/rounds/{TASK}.json": ONE_ROUND,
    f"metrics/evaluate/{TASK}.json": EVALUATED,
    f"metrics/search/{TASK}.json": SEARCHED,
}


def new_model(folder: Path, seed: int, dtype: str = "float32") -> None:
    """Write a Llama with random weights over single bytes, without a padding token, like the large ones."""
    # Some models have such a penalty; nothing was measured with it.
    write_byte_llama(folder, CHAT, seed, dtype, spread=0.5, repetition_penalty=1.5)


def new_adapter(base: Path, folder: Path) -> None:
    """Write a LoRA adapter with random matrices, so that it changes what the model says."""
    import torch
    from peft import LoraConfig, get_peft_model

    from dartune.models.checkpoint import open_model, open_tokenizer, save_model

    torch.manual_seed(7)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False)
    with warnings.catch_warnings(action="ignore"):  # PEFT looks up the base model's newest revision
        save_model(get_peft_model(open_model(base), lora), folder)
    open_tokenizer(base).save_pretrained(folder)


def new_project(folder: Path) -> None:
    """Write dvc.yaml and its stages for one task, with all that they would have made but models."""
    for name in ("src", "stages", "presets"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    preset = folder / "presets/embedded.yaml"
    preset.write_text(preset.read_text().replace("max_new_tokens: 256", "max_new_tokens: 16"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text()) | {"tasks": [TASK]}
    with (folder / "params.yaml").open("w") as stream:
        yaml.dump(params, stream)
    tasks = {name: folder / "src/dartune/tasks" / name for name in params["embedded"]["tasks"]}
    write_modules(
        folder / "stages",
        folder / "data/modules",
        tasks=tasks,
        learnt=[*tasks],
        remembered=[TASK],
        transferred=[],
        trainers={},
    )
    for path in made_by_stages(folder):
        path = path if path.suffix else path / "any.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    for name, metrics in FILES.items():
        (folder / name).write_text(json.dumps(metrics))
    (folder / f"metrics/sample/{TASK}.md").write_text(SHEET)
    (folder / "metrics/trainers.json").write_text("{}")  # of the report
    for name in (params["pool"]["method"], "version"):
        (folder / f"data/referee/{TASK}/{name}.json").write_text("{}")
    shutil.rmtree(folder / "models/base")


def made_by_stages(folder: Path) -> Iterator[Path]:
    """Yield the outputs of all stages."""
    for stage in YAML(typ="safe").load((folder / "dvc.yaml").read_text())["stages"].values():
        for kind in ("outs", "metrics", "plots"):
            for out in stage.get(kind, []):
                path = next(iter(out)) if isinstance(out, dict) else out
                yield folder / path.replace("${item.task}", TASK)


def tuned_folder() -> Path:
    """Where stage evaluate looks for the tuned model."""
    stages = YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"]
    words = stages["evaluate"]["cmd"].replace("${item.task}", TASK).split()
    return Path(words[words.index("stages/evaluate.py") + 4])


def git(*arguments: str) -> None:
    author = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", *author, *arguments], check=True)


def record() -> None:
    """Make DVC write dvc.lock for the files as they are."""
    from dvc.repo import Repo

    with Repo() as repo:
        repo.commit(force=True)


def relock(change: Callable[[], Any], *paths: str) -> None:
    """Change outputs, and update their hashes in dvc.lock."""
    old = {path: md5(Path(path)) for path in paths}
    change()
    text = LOCK.read_text()
    for path, hash_before in old.items():
        assert text.count(hash_before) > 0
        text = text.replace(hash_before, md5(Path(path)))
    LOCK.write_text(text)


def card(name: str) -> str:
    """The model card of an export, in the folder of the fixture `project`."""
    return Path("out", name, "README.md").read_text()
