"""The whole pipeline, tiny, on a real model, DVC, TRL and Prefect. What reruns when: tests/system/test_reruns.py."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from project_copy import AFTER_POOL, TASK, commit, fly, repro, run, warm_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project")
    with warm_project(folder):
        yield folder


@pytest.fixture(scope="module")
def flown(project: Path, prefect_server: str) -> subprocess.CompletedProcess[str]:
    """The first run, through the flow."""
    assert repro(project, "modules") <= {"modules"}
    said = run(project, "dvc", "status", "embedded").stdout
    assert said == "Data and pipelines are up to date.\n", f"the committed embedded model would be trained anew: {said}"
    result = fly(project, prefect_server)
    commit(project, "first run")
    return result


def test_the_flow_runs_every_stage_but_the_model_that_is_committed(project: Path, flown) -> None:
    states = dict(re.findall(r"^(\w+)(?:@\w+)? +(Completed|Cached|Restored) ", flown.stdout, re.MULTILINE))
    assert states == {
        "modules": "Cached",
        "embedded": "Cached",
        "base": "Completed",
        "referee": "Completed",
        "pool": "Completed",
        "baseline": "Completed",
        **dict.fromkeys(AFTER_POOL, "Completed"),
    }
    assert "base against tuned" in flown.stdout.lower()
    assert re.search(r"^report: .*report/index.html$", flown.stdout, re.MULTILINE)


def test_the_first_run_leaves_tables_metrics_and_a_report(project: Path, flown) -> None:
    import pyarrow.parquet as pq

    assert len(pq.read_table(project / f"data/pool/{TASK}.parquet")) == 60
    assert len(pq.read_table(project / f"data/evaluation/{TASK}.parquet")) == 40
    assert json.loads((project / f"metrics/train/{TASK}.json").read_text())["n_pairs"] == 8
    assert set(json.loads((project / f"metrics/evaluate/{TASK}.json").read_text())) == {"test"}
    assert (project / "report/index.html").stat().st_size > 10_000
    assert len(pq.read_table(project / f"data/search/{TASK}.parquet")) == 2 * 2 * 12
    searches = json.loads((project / f"metrics/search/{TASK}.json").read_text())
    assert {name: found["n_seeds"] for name, found in searches.items()} == {"funsearch": 2}
    assert json.loads((project / f"metrics/pool/{TASK}.json").read_text())["n_programs"] == 60
    for stage in ("pool", "score", "sample", "pairs", "train", "baseline", "evaluate", "search"):
        assert json.loads((project / f"metrics/resources/{stage}/{TASK}.json").read_text())["seconds"] > 0


def test_nothing_runs_the_second_time(project: Path, flown, prefect_server: str) -> None:
    again = fly(project, prefect_server).stdout
    assert set(re.findall(r"^\w+(?:@\w+)? +(\w+) +[\d.]+ s$", again, re.MULTILINE)) == {"Cached"}
    assert repro(project) == set()
    assert run(project, "git", "status", "--porcelain").stdout == ""


def test_a_pair_leads_back_to_its_programs_and_the_commit(project: Path, flown) -> None:
    import pyarrow.parquet as pq

    pair = pq.read_table(project / f"data/pairs/{TASK}.parquet").to_pylist()[2]
    pool = {row["id"]: row for row in pq.read_table(project / f"data/pool/{TASK}.parquet").to_pylist()}
    found = json.loads(run(project, "dartune", "trace", pair["pair"], "--json").stdout)
    assert (found["pair"], found["task"], found["margin"]) == (pair["pair"], TASK, pair["margin"])
    for role in ("chosen", "rejected"):
        written = pool[pair[f"{role}_id"]]
        assert {key: found[role][key] for key in written if key != "task"} == {
            key: value for key, value in written.items() if key != "task"
        }
        assert found[role]["score"] == pair[f"{role}_score"] and found[role]["split"] == "train"
        assert found[role]["max_slowdown"] == 1000 and len(found[role]["task_version"]) == 16
    committed = run(project, "git", "log", "--format=%H", "--grep=first run").stdout.strip()
    assert found["commit"] == committed
    words = run(project, "dartune", "trace", pair["pair"]).stdout
    assert pair["chosen_id"] in words and 'model: "' in words and committed in words


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (f"{TASK}-99999", r"there is no pair 'admissible_set-99999' in data/pairs/admissible_set\.parquet"),
        ("admisible_set-00001", "names no task; did you mean 'admissible_set'"),
        ("tsp_construct-00001", r"tsp_construct\.parquet is missing; pairs@tsp_construct makes it"),
    ],
)
def test_a_pair_that_is_not_there_is_refused_in_one_line(project: Path, flown, pair: str, message: str) -> None:
    result = run(project, "dartune", "trace", pair, is_ok=False)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and re.search(message, result.stderr)
