"""`dartune pool`: what a person sees of a pool."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dartune.errors import UserError
from dartune.pool.overview import overview, readable

NAMES = ("completion", "program", "status", "reason", "score", "behaviour")
ROWS = [
    ("```a```", "best", "ok", "", 3.0, "x"),
    ("```b```", "the same in other words", "ok", "", 3.0, "x"),
    ("```c```", "middling", "ok", "", 2.0, "y"),
    ("```d```", "worst", "ok", "", 1.0, "z"),
    ("prose \x1b[2J only\n" * 50, None, "no_program", "no function", None, None),
    ("more prose", None, "no_program", "no function", None, None),
    ("```e```", "broken", "runtime", "NameError: q", None, None),
]


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = Path("data/scored/tsp_construct.parquet")
    file.parent.mkdir(parents=True)
    Path("params.yaml").touch()
    rows = [{"id": f"p{i}"} | dict(zip(NAMES, row, strict=True)) for i, row in enumerate(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def test_it_counts_statuses_scores_and_behaviours(scored: Path) -> None:
    pool = overview("tsp_construct", 1)
    assert (pool["n"], pool["status"]) == (7, {"ok": 4, "no_program": 2, "runtime": 1})
    assert (pool["scores"]["best"], pool["scores"]["median"], pool["scores"]["worst"]) == (3.0, 2.5, 1.0)
    assert (pool["distinct_programs"], pool["distinct_behaviours"]) == (4, 3)


def test_best_and_worst_act_differently(scored: Path) -> None:
    pool = overview("tsp_construct", 2)
    assert [row["program"] for row in pool["best"]] == ["best", "middling"]
    assert [row["program"] for row in pool["worst"]] == ["middling", "worst"]


def test_failures_come_with_an_answer_the_commonest_first(scored: Path) -> None:
    first, second = overview("tsp_construct", 1)["failures"]
    assert (first["status"], first["n"], first["id"]) == ("no_program", 2, "p4")
    assert (second["reason"], second["completion"]) == ("NameError: q", "```e```")


def test_the_text_is_short_and_cannot_control_a_terminal(scored: Path) -> None:
    text = readable("tsp_construct", overview("tsp_construct", 1))
    assert "\x1b" not in text and "20 more lines" in text
    assert "2 failed as no_program (no function), such as p4:" in text
    assert "scores on split train: best 3, 90 % 3, median 2.5" in text


def test_a_pool_without_a_valid_program_is_shown_too(scored: Path) -> None:
    pq.write_table(pq.read_table(scored, filters=[("status", "!=", "ok")]), scored)
    assert "scores on split train: none: no program is valid" in readable("tsp_construct", overview("tsp_construct", 1))


def test_a_pool_that_was_not_scored_names_what_makes_it(scored: Path) -> None:
    with pytest.raises(UserError, match=r"cvrp_construct\.parquet is missing; score@cvrp_construct makes it"):
        overview("cvrp_construct", 1)


def test_the_command_prints_json(scored: Path) -> None:
    command = [sys.executable, "-m", "dartune.cli", "pool", "tsp_construct", "--json"]
    assert json.loads(subprocess.run(command, capture_output=True, text=True).stdout)["n"] == 7
