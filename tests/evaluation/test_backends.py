"""Base and tuned model on a server, under these two names: the same rows and metrics as of models that run here."""

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from byte_llama import write_byte_llama
from completion_server import body, described, faulty, sent
from dartune.errors import UserError
from dartune.evaluation.baseline import write_baseline
from dartune.evaluation.evaluate import EVALUATION_SCHEMA, write_evaluation
from dartune.evaluation.search import write_search
from dartune.files.parquet import read
from dartune.models.host import PLAIN, write_run
from dartune.tasks.task import Task

TASK = Task("tsp_construct", "block")
DRAWN: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 9}
LIMITS: dict[str, Any] = {"max_slowdown": 1000, "memory_mib": 512}
LAST = TASK.template.replace("unvisited_nodes[0]", "unvisited_nodes[-1]")


def by_model(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
    """The template by the model base, a worse program by the model tuned."""
    program = {"base": TASK.template, "tuned": LAST}[request["model"]]
    sent(handler, 200, json.dumps(body(TASK.answer(program))).encode())


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_byte_llama(Path("base"), "{{ messages[0].content }}")
    write_run(Path("base"), **PLAIN | {"prompt": "block"})
    return Path("base")


def evaluated(base: Path, server: Path, n_samples: int, batch_size: int, transfer: list[str]) -> None:
    """Run stages baseline and evaluate by a server."""
    drawn = {"n_samples": n_samples, "batch_size": batch_size, "seed": 0, "server": str(server)} | DRAWN
    write_baseline(TASK.name, base, Path("baseline.parquet"), **drawn)
    write_evaluation(
        *(TASK.name, base, Path("baseline.parquet"), base),
        *(Path("rows.parquet"), Path("metrics.json"), Path("transferred.json")),
        **{"held_out": "validation", "with_shifted": False, "transfer": transfer, "cluster": None},
        **drawn,
        **LIMITS,
    )


def test_both_models_of_a_server_are_evaluated_under_their_names(base: Path, tmp_path: Path) -> None:
    with faulty(by_model) as server:
        evaluated(base, described(tmp_path, url=server.url), 3, 2, [])
    rows = pq.read_table("rows.parquet").to_pylist()
    assert read(Path("rows.parquet")).schema.names == EVALUATION_SCHEMA.names
    programs = {(row["model"], row["program"].strip().splitlines()[-1]) for row in rows}
    assert programs == {("base", "    return unvisited_nodes[0]"), ("tuned", "    return unvisited_nodes[-1]")}
    assert len(rows) == 6
    assert [request["messages"][0]["content"] for request in server.requests] == [TASK.prompt] * 6


def test_both_models_write_for_other_tasks_where_transfer_asks(base: Path, tmp_path: Path) -> None:
    other = Task("cvrp_construct", "block")
    with faulty(by_model) as server:
        evaluated(base, described(tmp_path, url=server.url), 3, 3, [other.name, TASK.name])
    asked = [request["messages"][0]["content"] for request in server.requests]
    assert asked == [TASK.prompt] * 6 + [other.prompt] * 6
    rows, transferred = (pq.read_table("rows.parquet").to_pylist(), json.loads(Path("transferred.json").read_text()))
    assert len(rows) == 6 and [*transferred] == [other.name] and [*transferred[other.name]] == ["validation"]
    measured = transferred[other.name]["validation"]
    assert measured["base"]["validity"] == measured["tuned"]["validity"] == 0  # programs for routes without capacities
    assert not any(any(Path(".work", stage).iterdir()) for stage in ("baseline", "evaluate"))


def test_both_models_of_a_server_write_in_searches(base: Path, tmp_path: Path) -> None:
    with faulty(by_model) as server:
        write_search(
            *(TASK.name, base, base, {"climb": {"n_children": 2}}, Path("rows.parquet"), Path("metrics.json")),
            **{"methods": ["climb"], "n_evaluations": 4, "seeds": [0], "guide": "validation"},
            **{"held_out": "test", "server": str(described(tmp_path, url=server.url))},
            **DRAWN,
            **LIMITS,
        )
    rows = pq.read_table("rows.parquet").to_pylist()
    assert [row["model"] for row in rows] == ["base"] * 4 + ["tuned"] * 4
    assert all(row["program"].strip().endswith("nodes[-1]") for row in rows if row["model"] == "tuned")


def test_the_budget_of_a_server_holds_for_an_evaluation(base: Path, tmp_path: Path) -> None:
    with faulty(by_model) as server, pytest.raises(UserError, match="max_tokens"):
        evaluated(base, described(tmp_path, url=server.url, max_tokens=10), 6, 2, [])
    assert len(server.requests) == 2 * 1  # a batch takes 2 x 5 tokens, and none begins once 10 are reached
