"""Seconds, memory and tokens of every stage.

Seconds differ from run to run, so they have a separate page, which is no output of a stage; the report's bytes
repeat.
"""

import json
from pathlib import Path
from typing import Any

from dartune.evaluation.statistics import MODELS
from dartune.files.templates import render

STAGES = ("pool", "score", "sample", "pairs", "train", "baseline", "evaluate", "search")
MEASURED = {"baseline": "evaluate"}  # the stage whose metrics count what another used
USES = ("evaluations", "n_prompt_tokens", "n_tokens", "money")


def resources_page(tasks: list[str], metrics: Path) -> str:
    """Return the HTML page of the resources of every stage, and of the searches at equal seconds."""
    rows = {task: stage_rows(task, metrics) for task in tasks}
    return render(Path(__file__).parent / "resources.html.jinja", tasks=rows)


def run_style(tasks: list[str], metrics: Path) -> str:
    """Return the style sheet that adds to the report when, at which commit and where its programs were evaluated.

    It differs between equal runs, so it is a file of its own, beside the page, that DVC ignores.
    """
    files = [metrics / f"resources/evaluate/{task}.json" for task in tasks]
    runs = [json.loads(file.read_text()) for file in files if file.exists()]
    if not runs:
        return ""
    run = runs[-1]
    text = f"{run['date']}, commit {run['commit'].replace('+', ' with edits')}, {run['machine']}"
    text = text.replace("\\", "").replace('"', "'")
    return f'.about::after {{ content: "; {text}"; }}\n'


def stage_rows(task: str, metrics: Path) -> list[dict[str, Any]]:
    """Return one row per stage that ran on this machine: the resources of its last run, and its use of models.

    {"stage", "seconds", "cpu_seconds", "peak_mib", "evaluations", "n_prompt_tokens", "n_tokens", "money"}; the last
    four are None where a stage has no such thing. Of stage search also "at_equal_seconds", by method.
    """
    rows = []
    for stage in STAGES:
        folders = (f"resources/{stage}", MEASURED.get(stage, stage))
        resources, measured = (metrics / folder / f"{task}.json" for folder in folders)
        if resources.exists():
            uses = stage_uses(stage, json.loads(measured.read_text())) if measured.exists() else {}
            rows.append({"stage": stage, **dict.fromkeys(USES), **json.loads(resources.read_text()), **uses})
    return rows


def stage_uses(stage: str, measured: dict[str, Any]) -> dict[str, Any]:
    """Return the evaluations, tokens and money in a stage's metrics, {} for a stage that has none of them."""
    parts = list(measured.values())  # of evaluate by split, of search by method
    tokens = ("n_prompt_tokens", "n_tokens")
    if stage == "pool":
        return {key: measured[key] for key in (*tokens, "money")}
    if stage == "score":
        return {"evaluations": measured["n_programs"]}
    if stage == "baseline":
        return {key: parts[0]["base"][key] for key in tokens}
    if stage == "evaluate":  # each completion is written once, and judged on every split
        n = sum(part[model]["n_samples"] for part in parts for model in MODELS)
        return {"evaluations": n} | {key: parts[0]["tuned"][key] for key in tokens}
    if stage == "search":
        n = sum(len(MODELS) * part["n_seeds"] * part["n_evaluations"] for part in parts)
        means = {key: sum(part["n_seeds"] * part[model][key] for part in parts for model in MODELS) for key in tokens}
        return {"evaluations": n} | {key: round(value) for key, value in means.items()}
    return {}
