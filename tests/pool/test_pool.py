"""Stage `pool`: the table and its metrics."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dartune import params
from dartune.errors import UserError
from dartune.pool import pool
from dartune.pool.pool import write_pool
from dartune.referee.referee import write_referee
from replayed_search import (
    JUDGES,
    LIMITS,
    OPTIONS,
    POOL,
    TASK,
    Replaying,
)


@pytest.fixture
def limits() -> Path:
    write_referee(TASK.name, JUDGES, Path("limits"), **LIMITS, cluster=None)
    return Path("limits")


def written(backend: Any, limits: Path, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> bytes:
    """The bytes of a pool that write_pool writes with this back end."""
    settings = POOL | changed
    name = settings["method"]
    monkeypatch.setattr(pool, "open_backend", lambda source, task: backend)
    outputs = Path("pool.parquet"), Path("pool.json")
    write_pool(TASK.name, limits / f"{name}.json", OPTIONS[name], *outputs, **settings)
    return outputs[0].read_bytes()


def test_a_pool_has_equal_bytes_for_equal_seeds_and_others_for_another(
    limits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, same = (written(Replaying(), limits, monkeypatch) for _ in range(2))
    assert one == same != written(Replaying(), limits, monkeypatch, seed=1)


def test_a_pool_says_what_decided_it_and_what_it_cost(limits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(Replaying(), limits, monkeypatch)
    table = pq.read_table("pool.parquet")
    assert table.schema == pool.POOL_SCHEMA
    decided = {name: set(table[name].to_pylist()) for name in ("task", "method", "model", "seed", "max_new_tokens")}
    assert decided == {
        "task": {"tsp_construct"},
        "method": {"eoh"},
        "model": {"replayed"},
        "seed": {0},
        "max_new_tokens": {256},
    }
    # the back end counts characters, at 1.0 and 2.0 a million
    n_prompt, n = (sum(map(len, table[name].to_pylist())) for name in ("prompt", "completion"))
    assert json.loads(Path("pool.json").read_text()) == {
        "n_programs": 36,
        "n_prompt_tokens": n_prompt,
        "n_tokens": n,
        "money": round((n_prompt + 2 * n) / 1e6, 6),
        "finish": {"stop": 36},
    }


def test_a_sampled_pool_starts_no_referee(limits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Replaying()
    written(backend, limits, monkeypatch, method="independent", batch_size=10)
    assert backend.asked == [10, 10, 10, 6]
    assert not Path(".work/verdicts").exists()


def test_a_finished_pool_leaves_no_journal(limits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(Replaying(), limits, monkeypatch)
    assert list(Path(".work").rglob("*.parquet")) == []


def test_a_pool_of_no_programs_is_refused() -> None:
    section = params.everything(Path(__file__).parents[2] / "params.yaml")["pool"]
    for n in (0, -1, 1.5):
        with pytest.raises(UserError, match=re.escape(f"pool.n_programs is {n}: input should be")):
            params.check("pool", section | {"n_programs": n}, write_pool)
