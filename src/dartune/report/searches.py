"""Convergence: what both models found inside searches, and what every stage took, as the report shows it.

What was measured on a clock differs from run to run. It gets a page of its own, which is no output of a stage: the
report's own bytes repeat.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dartune.errors import UserError
from dartune.files import parquet

MODELS = ("base", "tuned")
COLUMNS = ["method", "model", "seed", "evaluation", "best_quality"]
FIGURES = {"top_1": "best program", "top_10": "mean of the ten best"}
STAGES = ("pool", "score", "sample", "pairs", "train", "evaluate", "search")


@dataclass(frozen=True)
class Searches:
    """figures: of metrics/search, by method. equal: at equal seconds, by method; {} where this was not measured here.

    curves: held-out quality of the best by guide so far, by method and model: (seeds, evaluations).
    """

    figures: dict[str, dict[str, Any]]
    equal: dict[str, dict[str, Any]]
    curves: dict[str, dict[str, np.ndarray]]


def read_searches(task: str, figures: dict[str, Any], file: Path, cost: Path) -> Searches:
    if not file.exists():
        raise UserError(f"report: {file} is missing; stage search makes it")
    table = parquet.read(file)
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        raise UserError(f"report: {file} has no column {missing[0]!r}; run stage search again")
    equal = json.loads(cost.read_text())["at_equal_seconds"] if cost.exists() else {}
    rows = table.select(COLUMNS).to_pylist()
    curves = {
        method: {model: curve([r for r in rows if (r["method"], r["model"]) == (method, model)]) for model in MODELS}
        for method in figures
    }
    return Searches(figures, equal, curves)


def curve(rows: list[dict[str, Any]]) -> np.ndarray:
    """(seeds, evaluations) of one method and model, whose rows stand in the order written."""
    seeds = dict.fromkeys(row["seed"] for row in rows)
    return np.array([[row["best_quality"] for row in rows if row["seed"] == seed] for seed in seeds])


def comparison(searches: Searches) -> list[dict[str, Any]]:
    """One row a method and figure: base, tuned and their difference."""
    rows = []
    for method, measured in searches.figures.items():
        for key, label in FIGURES.items():
            values = {model: measured[model][key] for model in MODELS}
            rows.append({"method": method, "label": label, **values, **measured["difference"][key]})
    return rows


def cost_page(tasks: dict[str, Searches], metrics: Path) -> str:
    """HTML of what every stage took, and of the searches at equal seconds."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    rows = {task: {"costs": costs(task, metrics), "equal": searches.equal} for task, searches in tasks.items()}
    return environment.get_template("resources.html.jinja").render(tasks=rows)


def costs(task: str, metrics: Path) -> list[dict[str, Any]]:
    """One row a stage that ran here: what its last run took, and what it asked of models.

    {"stage", "seconds", "cpu_seconds", "peak_mib", "evaluations", "n_prompt_tokens", "n_tokens", "money"}; null where a
    stage asks no model or judges nothing.
    """
    return [found for stage in STAGES if (found := cost(stage, task, metrics))]


def cost(stage: str, task: str, metrics: Path) -> dict[str, Any] | None:
    taken = metrics / "resources" / stage / f"{task}.json"
    if not taken.exists():
        return None
    asked = dict.fromkeys(("evaluations", "n_prompt_tokens", "n_tokens", "money"))
    measured = metrics / stage / f"{task}.json"
    found = json.loads(measured.read_text()) if measured.exists() else {}
    return {
        "stage": stage,
        **asked,
        **json.loads(taken.read_text()),
        **(asked_of_models(stage, found) if found else {}),
    }


def asked_of_models(stage: str, found: dict[str, Any]) -> dict[str, Any]:
    """VerdictCache and tokens out of a stage's metrics."""
    if stage == "pool":
        return {key: found[key] for key in ("n_prompt_tokens", "n_tokens", "money")}
    if stage == "score":
        return {"evaluations": found["n_programs"]}
    if stage == "evaluate":
        split = next(iter(found.values()))
        return {
            "evaluations": sum(each[model]["n_samples"] for each in found.values() for model in MODELS),
            **{name: sum(split[model][name] for model in MODELS) for name in ("n_prompt_tokens", "n_tokens")},
        }
    if stage == "search":
        return {
            "evaluations": sum(2 * each["n_seeds"] * each["n_evaluations"] for each in found.values()),
            **{
                name: round(sum(each["n_seeds"] * each[model][name] for each in found.values() for model in MODELS))
                for name in ("n_prompt_tokens", "n_tokens")
            },
        }
    return {}
