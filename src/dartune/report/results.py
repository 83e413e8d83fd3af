"""Reads what the stages measured of one task."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dartune.errors import UserError
from dartune.evaluation.statistics import MODELS, TEMPLATE
from dartune.files import parquet
from dartune.report.plots import Curves
from dartune.report.training import methods, read_curves

STAGES = ("pool", "score", "sample", "train", "rounds", "evaluate", "search")
PROGRAM = ["program", "status", "reason", "costs", "behaviour", "quality", "gap", "interpreter"]
COLUMNS = ["model", "sample", "split", *PROGRAM]
SEARCH_COLUMNS = ["method", "model", "seed", "best_quality"]
Rows = dict[str, dict[str, list[dict[str, Any]]]]  # of the table of stage evaluate, by split and model


@dataclass(frozen=True)
class Result:
    """What the stages measured of one task.

    metrics: of the stages pool, score, sample, train and rounds. splits: those of stage evaluate by split, the held-out
    one first. transferred: the same on other tasks, by task and split. template: the task's template program. curves:
    what training logged, {} where it was too short; earlier_curves: the same of the trainings before it. searches: the
    metrics of stage search by method. search_curves: by method and model, (seeds, evaluations), the held-out quality of
    the program that guides best so far.
    """

    metrics: dict[str, dict[str, Any]]
    splits: dict[str, Any]
    transferred: dict[str, Any]
    rows: Rows
    template: str
    curves: Curves
    earlier_curves: list[Curves]
    searches: dict[str, Any]
    search_curves: dict[str, dict[str, np.ndarray]]

    @property
    def held_out(self) -> str:
        """The name of the held-out split."""
        return next(iter(self.splits))

    def qualities(self) -> dict[str, dict[str, np.ndarray]]:
        """Return the qualities (n_samples,) by split and model."""
        return {
            split: {model: np.array([row["quality"] for row in models[model]]) for model in MODELS}
            for split, models in self.rows.items()
        }


def read_result(task: str, metrics: Path, evaluation: Path, search: Path, plots: Path) -> Result:
    """Return what the stages measured. Raises UserError, naming the stage to run, for a missing or cut file."""
    measured = {stage: read_json(metrics / stage / f"{task}.json", f"stage {stage}") for stage in STAGES}
    splits, searches = measured.pop("evaluate"), measured.pop("search")
    table = parquet.read(evaluation / f"{task}.parquet")
    return Result(
        metrics=measured,
        splits=splits,
        transferred=read_json(metrics / "transfer" / f"{task}.json", "stage evaluate"),
        rows=read_rows(table, list(splits)),
        template=(table.schema.metadata or {}).get(TEMPLATE.encode(), b"").decode(),
        curves=read_curves(plots / task, measured["train"]["settings"]["method"]),
        earlier_curves=[read_curves(plots / task / name, name) for name in methods(measured["train"])[:-1]],
        searches=searches,
        search_curves=read_search_curves(search / f"{task}.parquet", list(searches)),
    )


def read_json(file: Path, maker: str) -> dict[str, Any]:
    """Return the content of a metrics file. Raises UserError, naming its maker, where it is missing or cut."""
    try:
        return dict(json.loads(file.read_text()))
    except FileNotFoundError as error:
        raise UserError(f"report: {file} is missing; {maker} makes it") from error
    except ValueError as error:
        raise UserError(f"report: {file} is not whole ({error}); run {maker} again") from error


def read_rows(table: pa.Table, splits: list[str]) -> Rows:
    """Return the judged programs of both models."""
    rows: Rows = {split: {model: [] for model in MODELS} for split in splits}
    for row in table.select(COLUMNS).to_pylist():
        rows[row["split"]][row["model"]].append(row)
    return rows


def read_search_curves(file: Path, methods: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """Return the best qualities (seeds, evaluations) by method and model; UserError for a missing or cut file."""
    seeds: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in parquet.read(file).select(SEARCH_COLUMNS).to_pylist():
        run = seeds.setdefault((row["method"], row["model"]), {})
        run.setdefault(row["seed"], []).append(row["best_quality"])
    return {method: {model: np.array([*seeds[method, model].values()]) for model in MODELS} for method in methods}
