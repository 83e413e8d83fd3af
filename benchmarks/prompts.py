"""What a model writes to each form of a task's prompt at each temperature, on validation instances.

`make prompts PRESET=smollm2-135m`: N answers a cell, every answer counted. A finished cell is kept in .work, so that a
killed run goes on.

    python benchmarks/prompts.py PRESET [--tasks T ...] [--forms F ...] [--temperatures X ...] [-n N]
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from judged import judged

from dartune import params
from dartune.base_model.base import write_base
from dartune.evaluation.baseline import COMPLETION_SCHEMA
from dartune.files.atomic import write_json
from dartune.files.fingerprint import fingerprint
from dartune.models.backend import Decoding
from dartune.models.checkpoint import revision
from dartune.models.host import run_settings
from dartune.models.transformers_backend import TransformersBackend
from dartune.tasks.forms import FORMS
from dartune.tasks.task import Task, names

SPLIT, SEED, TOP_P, MAX_NEW_TOKENS = "validation", 0, 0.95, 400
CELLS = Path(".work/prompts")
COLUMNS = (
    "task",
    "form",
    "temperature",
    "n",
    "valid",
    "behaviours",
    "copies",
    "better",
    "best",
    "tokens",
    "per_second",
)
HEAD = "| task | form | T | n | valid | distinct behaviours | copies of the template, of valid | better than it | best"
HEAD += " quality | tokens an answer | answers/s |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("preset")
    parser.add_argument("--tasks", nargs="+", default=names())
    parser.add_argument("--forms", nargs="+", default=list(FORMS))
    parser.add_argument("--temperatures", nargs="+", type=float, default=[0.6, 0.8, 1.0])
    parser.add_argument("-n", type=int, default=256)
    arguments = parser.parse_args()
    base = base_of(arguments.preset)
    print(HEAD + "\n" + "|---" * len(COLUMNS) + "|")
    backend = None
    for task in arguments.tasks:
        for form in arguments.forms:
            for temperature in arguments.temperatures:
                key = fingerprint([], prompt=Task(task, form).prompt, run=run_settings(base), model=revision(base))
                file = CELLS / f"{task}-{form}-{temperature:g}-{arguments.n}-{key}.json"
                if not file.exists():
                    backend = backend or TransformersBackend(base, function=Task(task).function)
                    backend.function = Task(task).function
                    write_json(file, cell(backend, Task(task, form), temperature, arguments.n))
                row = json.loads(file.read_text())
                print("| " + " | ".join(str(row[name]) for name in COLUMNS) + " |", flush=True)


def base_of(preset: str) -> Path:
    """Return the folder of a preset's base model, as stage base writes it."""
    folder = CELLS / "base"
    shutil.rmtree(folder, ignore_errors=True)
    write_base(folder, Path("models/embedded"), **params.read(Path(f"presets/{preset}.yaml"))["base"])
    return folder


def cell(backend: TransformersBackend, task: Task, temperature: float, n: int) -> dict[str, Any]:
    """Return the measures of n answers to one form of the task's prompt, and the answers."""
    decoding, began = Decoding(temperature, TOP_P, MAX_NEW_TOKENS), time.perf_counter()
    answers = backend.complete([task.prompt] * n, seed=SEED, decoding=decoding)
    seconds = time.perf_counter() - began
    table = pa.Table.from_pylist([{"completion": answer.text, **vars(answer)} for answer in answers], COMPLETION_SCHEMA)
    rows, figures = judged(task.name, SPLIT, table)
    validity = figures["validity"]
    return {
        "task": task.name,
        "form": task.form,
        "temperature": temperature,
        "n": n,
        "valid": validity,
        "behaviours": round(figures["distinct_behaviours"] * n),
        "copies": round(figures["equal_to_template"] / validity, 3) if validity else 0.0,
        "better": round(figures["better_than_template"] * n),
        "best": round(max(row["quality"] for row in rows), 3),
        "tokens": figures["mean_tokens"],
        "per_second": round(n / seconds, 2),
        "finish": [answer.finish for answer in answers],
        "status": [row["status"] for row in rows],
        "answers": [answer.text for answer in answers],
    }


if __name__ == "__main__":
    main()
