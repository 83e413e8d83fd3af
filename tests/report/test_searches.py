"""Searches as the report shows them."""

from pathlib import Path

import pyarrow as pa
import pytest

from dartune.files import parquet
from dartune.report.results import read_search_curves
from dartune.report.table import search_rows

SEARCH = [
    {"method": method, "model": model, "seed": seed, "evaluation": i, "best_quality": seed + i / 10, "more": 1}
    for method in ("eoh", "independent")
    for model in ("base", "tuned")
    for seed in (3, 0)
    for i in range(2)
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    parquet.write(pa.Table.from_pylist(SEARCH), tmp_path / "search.parquet")
    return tmp_path / "search.parquet"


def test_a_curve_has_one_line_a_seed_in_the_order_written(table: Path) -> None:
    curves = read_search_curves(table, ["eoh"])
    assert list(curves) == ["eoh"]
    lines = [[3.0, 3.1], [0.0, 0.1]]
    assert {model: curve.tolist() for model, curve in curves["eoh"].items()} == {"base": lines, "tuned": lines}


def test_each_method_has_a_row_for_both_of_its_metrics() -> None:
    first, second = ({"estimate": value, "low": None, "high": None} for value in (0.1, 0.2))
    measured = {
        "base": {"top_1": 0.5, "top_10": 0.4, "validity": 1.0},
        "tuned": {"top_1": 0.6, "top_10": 0.6, "validity": 1.0},
        "difference": {"top_1": first, "top_10": second},
    }
    best, ten = {"label": "best program", "base": 0.5, "tuned": 0.6}, {"label": "mean of the ten best"}
    assert search_rows({"eoh": measured, "independent": measured}) == [
        {"method": method, **row, "significance": "unclear"}
        for method in ("eoh", "independent")
        for row in (best | first, ten | {"base": 0.4, "tuned": 0.6} | second)
    ]
