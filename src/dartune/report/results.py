"""Reads and checks what the stages measured of one task."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dartune.errors import UserError
from dartune.evaluation.statistics import MODELS
from dartune.report.inputs import read_json, read_table
from dartune.report.plots import Curves
from dartune.report.searches import Searches, read_searches
from dartune.report.training import read_curves, read_train

COLUMNS = ["model", "sample", "split", "program", "status", "reason", "behaviour", "quality", "gap"]
Rows = dict[str, dict[str, list[dict[str, Any]]]]  # of the table of stage evaluate, by split and model


@dataclass(frozen=True)
class Result:
    """What the stages measured of one task.

    score, sample, train, pool, rounds: the stage's metrics. splits: the metrics of stage evaluate by split, the
    held-out one first. curves: what training logged, {} where it was too short.
    """

    score: dict[str, Any]
    sample: dict[str, Any]
    train: dict[str, Any]
    splits: dict[str, Any]
    rows: Rows
    curves: Curves
    searches: Searches
    pool: dict[str, Any]
    rounds: dict[str, Any]

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
    """Return what the stages measured. Raises UserError, naming the stage to run, for a missing, cut or older file."""
    stages = ("evaluate", "score", "sample", "search", "pool", "rounds")
    measured = {stage: read_json(metrics / stage / f"{task}.json", f"stage {stage}") for stage in stages}
    splits, train = measured["evaluate"], read_train(metrics / "train" / f"{task}.json")
    if not all(isinstance(split, dict) and {*MODELS, "difference"} <= set(split) for split in splits.values()):
        raise UserError(f"report: {metrics}/evaluate/{task}.json lacks a model; run stage evaluate again")
    resources = metrics / "resources" / "search" / f"{task}.json"
    return Result(
        score=measured["score"],
        sample=measured["sample"],
        train=train,
        splits=splits,
        rows=read_rows(evaluation / f"{task}.parquet", list(splits)),
        curves=read_curves(plots / task, train),
        searches=read_searches(measured["search"], search / f"{task}.parquet", resources),
        pool=measured["pool"],
        rounds=measured["rounds"],
    )


def read_rows(file: Path, splits: list[str]) -> Rows:
    """Return the judged programs of both models. Raises UserError where a model has none on a split."""
    rows: Rows = {split: {model: [] for model in MODELS} for split in splits}
    for row in read_table(file, COLUMNS, "stage evaluate").to_pylist():
        if row["split"] in rows:
            rows[row["split"]][row["model"]].append(row)
    for split, models in rows.items():
        if not all(models.values()):
            raise UserError(f"report: {file} has not both models' programs on {split}; run stage evaluate again")
    return rows
