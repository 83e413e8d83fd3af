"""Searches as the report shows them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dartune.files import parquet
from dartune.report.searches import curve, read_searches, search_rows

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


def test_a_curve_has_one_line_a_seed_in_the_order_written() -> None:
    of_one = [row for row in SEARCH if (row["method"], row["model"]) == ("eoh", "tuned")]
    assert curve(of_one).tolist() == [[3.0, 3.1], [0.0, 0.1]]


def test_searches_have_their_curves_and_seconds_only_if_run_here(table: Path, tmp_path: Path) -> None:
    metrics: dict[str, Any] = {"eoh": {"n_seeds": 2}}
    searches = read_searches(metrics, table, tmp_path / "none.json")
    assert (searches.metrics, searches.at_equal_seconds) == (metrics, {})
    assert {model: values.tolist() for model, values in searches.curves["eoh"].items()} == {
        "base": [[3.0, 3.1], [0.0, 0.1]],
        "tuned": [[3.0, 3.1], [0.0, 0.1]],
    }
    assert list(searches.curves) == ["eoh"]
    (tmp_path / "resources.json").write_text(
        json.dumps({"seconds": 1.0, "at_equal_seconds": {"eoh": {"seconds": 2.0}}})
    )
    assert read_searches(metrics, table, tmp_path / "resources.json").at_equal_seconds == {"eoh": {"seconds": 2.0}}


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
