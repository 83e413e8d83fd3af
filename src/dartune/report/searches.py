"""Searches with the base and the tuned model, as stage search measured them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dartune.evaluation.statistics import MODELS, significance
from dartune.files import parquet

COLUMNS = ["method", "model", "seed", "evaluation", "best_quality"]
METRICS = {"top_1": "best program", "top_10": "mean of the ten best"}


@dataclass(frozen=True)
class Searches:
    """What stage search measured of one task, each by search method.

    metrics: the content of metrics/search. at_equal_seconds: the same at equal seconds, {} where this machine did not
    run the stage. curves: by model (seeds, evaluations), the held-out quality of the program that guides best so far.
    """

    metrics: dict[str, dict[str, Any]]
    at_equal_seconds: dict[str, dict[str, Any]]
    curves: dict[str, dict[str, np.ndarray]]


def read_searches(metrics: dict[str, Any], file: Path, resources: Path) -> Searches:
    """Return the searches of one task. Raises UserError where the table is missing or cut.

    metrics: by method. file: the table of stage search. resources: what the stage took, where it ran on this machine.
    """
    rows = parquet.read(file).select(COLUMNS).to_pylist()
    at_equal_seconds = json.loads(resources.read_text())["at_equal_seconds"] if resources.exists() else {}
    curves = {
        method: {model: curve([r for r in rows if (r["method"], r["model"]) == (method, model)]) for model in MODELS}
        for method in metrics
    }
    return Searches(metrics, at_equal_seconds, curves)


def curve(rows: list[dict[str, Any]]) -> np.ndarray:
    """Return the best qualities (seeds, evaluations) of one method and model. rows: in the order of the table."""
    seeds = dict.fromkeys(row["seed"] for row in rows)
    return np.array([[row["best_quality"] for row in rows if row["seed"] == seed] for seed in seeds])


def search_rows(metrics: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each method and metric: base, tuned, their difference and its significance."""
    return [
        {
            "method": method,
            "label": label,
            **{model: measured[model][key] for model in MODELS},
            **measured["difference"][key],
            "significance": significance(measured["difference"][key]),
        }
        for method, measured in metrics.items()
        for key, label in METRICS.items()
    ]
