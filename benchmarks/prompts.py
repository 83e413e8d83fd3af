"""What a model writes to each form of a task's prompt at each temperature, on validation instances.

`make prompts PRESET=smollm2-135m`: N answers a cell, every answer counted. A finished cell is kept in .work, so that a
killed run goes on.

    python benchmarks/prompts.py PRESET [--tasks T ...] [--forms F ...] [--temperatures X ...] [-n N]
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from dartune import params
from dartune.base_model.base import write_base
from dartune.files.atomic import write_json
from dartune.files.fingerprint import fingerprint
from dartune.models.backend import Decoding
from dartune.models.checkpoint import revision
from dartune.models.host import run_settings
from dartune.models.transformers_backend import TransformersBackend
from dartune.referee.completions import equals_template, judge, template_score
from dartune.referee.referee import MAX_SLOWDOWN, MEMORY_MIB, Referee
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
    base = Path(".work/prompts/base")
    section = params.read(Path(f"presets/{arguments.preset}.yaml"))["base"]
    write_base(base, Path("models/embedded"), **section)
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


def cell(backend: TransformersBackend, task: Task, temperature: float, n: int) -> dict[str, Any]:
    """Return the measures of n answers to one form of the task's prompt, and the answers."""
    decoding, began = Decoding(temperature, TOP_P, MAX_NEW_TOKENS), time.perf_counter()
    answers = backend.complete([task.prompt] * n, seed=SEED, decoding=decoding)
    seconds = time.perf_counter() - began
    with Referee(task, SPLIT, max_slowdown=MAX_SLOWDOWN, memory_mib=MEMORY_MIB) as referee:
        template = template_score(referee)
        verdicts = [one.verdict for one in judge(referee, [answer.text for answer in answers])]
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    n_copies = sum(equals_template(score, template) for score in scores)
    n_better = sum(score > template and not equals_template(score, template) for score in scores)
    return {
        "task": task.name,
        "form": task.form,
        "temperature": temperature,
        "n": n,
        "valid": round(len(scores) / n, 3),
        "behaviours": len({verdict.behaviour for verdict in verdicts} - {None}),
        "copies": round(n_copies / max(1, len(scores)), 3),
        "better": n_better,
        "best": round(max((task.quality(score, SPLIT) for score in scores), default=0.0), 3),
        "tokens": round(sum(answer.n_tokens for answer in answers) / n),
        "per_second": round(n / seconds, 2),
        "finish": [answer.finish for answer in answers],
        "status": [verdict.status for verdict in verdicts],
        "answers": [answer.text for answer in answers],
    }


if __name__ == "__main__":
    main()
