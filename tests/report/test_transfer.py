"""The transfer matrix: every pair that was measured, in its place, and nothing where none was."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dartune.files import atomic
from dartune.report.results import Result, read_result
from dartune.report.transfer import matrix, transfer_plot
from measured_task import BETTER, FAIR, report, rows, write_inputs


def of(estimate: float, half: float = 0.01) -> dict[str, Any]:
    return {"difference": {"mean": {"estimate": estimate, "low": estimate - half, "high": estimate + half}}}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    write_inputs(tmp_path, rows("base", FAIR), rows("tuned", BETTER))
    return tmp_path


@pytest.fixture
def tour(inputs: Path) -> Result:
    return read_result("tour", inputs / "metrics", inputs / "evaluation", inputs / "search", inputs / "plots")


def test_the_matrix_has_own_and_other_tasks_in_the_order_of_the_run(tour: Result) -> None:
    first = replace(tour, splits={"test": of(0.2)}, transferred={"far": {"test": of(-0.1)}, "walk": {"test": of(0.0)}})
    second = replace(tour, splits={"test": of(0.3)}, transferred={"tour": {"test": of(0.05)}})
    cells = matrix({"tour": first, "walk": second})
    assert [*cells] == [("tour", "test"), ("walk", "test"), ("far", "test")]
    estimates = {key: {task: cell["estimate"] for task, cell in row.items()} for key, row in cells.items()}
    assert estimates["tour", "test"] == {"tour": 0.2, "walk": 0.05}
    assert estimates["walk", "test"] == {"tour": 0.0, "walk": 0.3}
    assert estimates["far", "test"] == {"tour": -0.1}
    assert [cells["far", "test"]["tour"]["significance"], cells["walk", "test"]["tour"]["significance"]] == [
        "worse",
        "unclear",
    ]
    svg = transfer_plot(cells, ["tour", "walk"])
    assert svg and all(number in svg for number in ("+0.200", "+0.050", "-0.100")) and svg.count("<image") == 0


def test_without_transfer_there_is_no_matrix_and_no_section(tour: Result, inputs: Path) -> None:
    assert matrix({"tour": tour}) == {} and transfer_plot({}, ["tour"]) is None
    assert 'id="transfer"' not in report(inputs)[0]


def test_the_page_shows_the_matrix_with_intervals(inputs: Path) -> None:
    atomic.write_json(inputs / "metrics/transfer/tour.json", {"walk": {"test": of(0.125)}})
    section = report(inputs)[0].partition('id="transfer"')[2].partition("</section>")[0]
    words = " ".join(re.sub("<[^>]*>", " ", section).split())
    assert "walk test +0.125 ▲ +0.115 to +0.135" in words
    own = json.loads((inputs / "metrics/evaluate/tour.json").read_text())["test"]["difference"]["mean"]
    assert f"tour test {own['estimate']:+.3f} ▲" in words
