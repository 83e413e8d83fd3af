"""What two models found inside searches, and how far they differ: numbers worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dartune.evaluation.search import (
    SEARCH_SCHEMA,
    at_equal_seconds,
    best_so_far,
    compare,
    judged_runs,
    ranking,
    summary,
    top_qualities,
)
from dartune.referee.referee import Referee
from dartune.tasks.task import Task

TASK = Task("tsp_construct")


def judged(score: float | None, *costs: float, **changed: Any) -> dict[str, Any]:
    """A row of a search; costs are the score's where none are given."""
    return {"score": score, "costs": None if score is None else list(costs or (-score,))} | changed


def rows(*scores: float | None) -> list[dict[str, Any]]:
    return [judged(score) for score in scores]


# ---- the best so far, and the ten best


def test_the_best_so_far_is_of_equals_the_first() -> None:
    assert best_so_far(rows(None, -3.0, -4.0, -3.0, None, -2.0, -2.0)) == [None, 1, 1, 1, 1, 5, 5]


def test_without_a_valid_program_there_is_no_best() -> None:
    assert best_so_far(rows(None, None)) == [None, None] and best_so_far([]) == []


def test_the_best_in_the_end_has_rank_1() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        found = rows(*(None if rng.random() < 0.3 else float(-rng.integers(1, 6)) for _ in range(30)))
        assert ranking(found)[best_so_far(found)[-1]] == 1


def test_ranks_go_from_the_best_down_and_failures_have_none() -> None:
    assert ranking(rows(-3.0, None, -1.0, -2.0)) == {2: 1, 3: 2, 0: 3}
    assert ranking(rows(None)) == {} == ranking([])


def test_of_programs_that_cost_the_same_the_first_is_ranked_alone() -> None:
    same_mean = [judged(-2.0, 2.0, 2.0), judged(-2.0, 1.0, 3.0), judged(-2.0, 2.0, 2.0)]
    assert ranking(same_mean) == {0: 1, 1: 2}  # equal scores: the earlier one first


def test_at_most_ten_are_ranked() -> None:
    found = ranking(rows(*map(float, range(-30, 0))))
    assert found == {29 - i: i + 1 for i in range(10)}


def ranked(*qualities: float | None) -> list[dict[str, Any]]:
    """Rows of which those with a quality have the ranks 1, 2, ... in this order."""
    ranks = iter(range(1, 11))
    return [{"rank": None if q is None else next(ranks), "quality": q} for q in qualities]


def test_top_1_is_the_held_out_quality_of_the_best_guided_program() -> None:
    assert top_qualities(ranked(0.7, 0.9, None)) == {"top_1": 0.7, "top_10": pytest.approx(0.8)}


def test_top_10_of_fewer_programs_is_the_mean_of_all() -> None:
    assert top_qualities(ranked(0.5, 0.3, 0.1)) == {"top_1": 0.5, "top_10": pytest.approx(0.3)}
    assert top_qualities(ranked(0.5)) == {"top_1": 0.5, "top_10": 0.5}


def test_top_10_counts_a_program_that_fails_on_the_held_out_instances_as_0() -> None:
    assert top_qualities(ranked(0.8, 0.0)) == {"top_1": 0.8, "top_10": 0.4}


def test_a_search_that_found_nothing_has_0() -> None:
    assert top_qualities(ranked(None, None)) == {"top_1": 0.0, "top_10": 0.0}


# ---- one search, and the differences


def run(n: int, *qualities: float, **changed: Any) -> list[dict[str, Any]]:
    """n rows, the first ones ranked with these qualities and ok, the others without a program."""
    made = []
    for i in range(n):
        is_ok = i < len(qualities)
        made.append(
            {"program": f"program {i}" if is_ok else None, "status": "ok" if is_ok else "no_program"}
            | {"rank": i + 1 if is_ok else None, "quality": qualities[i] if is_ok else None}
            | {"n_prompt_tokens": 10, "n_tokens": 3, "best_quality": max([0.0, *qualities[: i + 1]])}
            | changed
        )
    return made


def test_a_summary_counts_valid_programs_and_different_ones_and_tokens() -> None:
    # 5 rows: 3 valid, of which two have the same text
    made = run(5, 0.9, 0.8, 0.7)
    made[1]["program"] = made[0]["program"]
    assert summary(made) == {
        "top_1": 0.9,
        "top_10": pytest.approx(0.8),
        "validity": 0.6,
        "distinct_programs": 0.4,
        "n_prompt_tokens": 50,
        "n_tokens": 15,
    }


RUNS = {
    ("eoh", "base", 0): run(4, 0.5, 0.3),
    ("eoh", "base", 1): run(4, 0.6),
    ("eoh", "base", 2): run(4, 0.7, 0.5),
    ("eoh", "tuned", 0): run(4, 0.6, 0.4),
    ("eoh", "tuned", 1): run(4, 0.8, 0.6),
    ("eoh", "tuned", 2): run(4, 1.0, 0.8),
}


def test_a_comparison_has_means_over_seeds_and_seed_by_seed_differences() -> None:
    # top 1: base .5 .6 .7, tuned .6 .8 1.0: differences .1 .2 .3, mean .2, deviation .1, half 4.302653 * .1 / sqrt(3)
    # top 10: base .4 .6 .6, tuned .5 .7 .9: differences .1 .1 .3, mean 1/6, deviation sqrt(.04 / 3) = .115470,
    # half 4.302653 * .115470 / sqrt(3) = .286844
    found = compare(RUNS, "eoh", [0, 1, 2])
    assert (found["n_evaluations"], found["n_seeds"]) == (4, 3)
    assert found["base"] == {
        "top_1": 0.6,
        "top_10": pytest.approx(1.6 / 3, abs=1e-6),
        "validity": pytest.approx(5 / 12, abs=1e-6),  # 2, 1 and 2 of 4
        "distinct_programs": pytest.approx(5 / 12, abs=1e-6),
        "n_prompt_tokens": 40.0,
        "n_tokens": 12.0,
    }
    assert (found["tuned"]["top_1"], found["tuned"]["top_10"]) == (0.8, 0.7)
    assert found["difference"]["top_1"] == {"estimate": 0.2, "low": -0.048414, "high": 0.448414}
    assert found["difference"]["top_10"] == {"estimate": 0.166667, "low": -0.120177, "high": 0.45351}


def test_a_comparison_of_one_seed_has_no_interval() -> None:
    assert compare(RUNS, "eoh", [1])["difference"]["top_1"] == {"estimate": 0.2, "low": None, "high": None}


def test_a_comparison_takes_the_rows_of_its_own_method() -> None:
    others = {("independent", model, seed): run(4) for _, model, seed in RUNS}
    assert compare(RUNS | others, "eoh", [0, 1, 2]) == compare(RUNS, "eoh", [0, 1, 2])
    assert compare(RUNS | others, "independent", [0, 1, 2])["difference"]["top_1"]["estimate"] == 0.0


# ---- at equal seconds


def clocked(*seconds: float) -> list[dict[str, Any]]:
    return [{"seconds": each} for each in seconds]


def test_at_equal_seconds_the_slower_model_has_made_fewer_evaluations() -> None:
    # base takes 4 s in all, tuned 8: after 4 s base has made 4 and tuned 2
    found = {("m", "base", 0): clocked(1, 1, 1, 1), ("m", "tuned", 0): clocked(2, 2, 2, 2)}
    runs = {("m", "base", 0): run(4, 0.1, 0.2, 0.3, 0.4), ("m", "tuned", 0): run(4, 0.5, 0.6, 0.7, 0.8)}
    assert at_equal_seconds(found, runs, "m", [0]) == {
        "seconds": 4.0,
        "base": {"evaluations": 4.0, "top_1": 0.4},
        "tuned": {"evaluations": 2.0, "top_1": 0.6},
        "difference": {"estimate": 0.2, "low": None, "high": None},
    }


def test_at_equal_seconds_an_unfinished_evaluation_does_not_count() -> None:
    # tuned ends after 3.9 s, when base has finished one of 2 s
    found = {("m", "base", 0): clocked(2, 2), ("m", "tuned", 0): clocked(1.3, 1.3, 1.3)}
    runs = {("m", "base", 0): run(2, 0.1, 0.9), ("m", "tuned", 0): run(3, 0.5)}
    at = at_equal_seconds(found, runs, "m", [0])
    assert (at["base"], at["tuned"]["evaluations"]) == ({"evaluations": 1.0, "top_1": 0.1}, 3.0)


def test_at_equal_seconds_a_model_that_has_finished_nothing_yet_has_0() -> None:
    found = {("m", "base", 0): clocked(9, 9), ("m", "tuned", 0): clocked(1, 1)}
    runs = {("m", "base", 0): run(2, 0.9, 0.9), ("m", "tuned", 0): run(2, 0.5)}
    assert at_equal_seconds(found, runs, "m", [0])["base"] == {"evaluations": 0.0, "top_1": 0.0}


def test_runs_that_took_equal_seconds_count_in_full_despite_rounding() -> None:
    # ten times 0.1 adds up to 0.9999999999999999
    found = {("m", "base", 0): clocked(*[0.1] * 10), ("m", "tuned", 0): clocked(1.0)}
    runs = {("m", "base", 0): run(10, *[i / 10 for i in range(10)]), ("m", "tuned", 0): run(1, 0.5)}
    at = at_equal_seconds(found, runs, "m", [0])
    assert (at["base"]["evaluations"], at["tuned"]["evaluations"]) == (10.0, 1.0)


def test_at_equal_seconds_each_seed_has_a_limit_of_its_own() -> None:
    # seed 0: 2 s, base 2 of 2 and tuned 1 of 2; seed 1: 3 s, base 1 of 2 and tuned 3 of 3. Means: 2.5 s, 1.5 and 2
    found = {("m", "base", 0): clocked(1, 1), ("m", "tuned", 0): clocked(2, 2)}
    found |= {("m", "base", 1): clocked(3, 3), ("m", "tuned", 1): clocked(1, 1, 1)}
    runs = {("m", "base", 0): run(2, 0.2, 0.4), ("m", "tuned", 0): run(2, 0.5, 0.9)}
    runs |= {("m", "base", 1): run(2, 0.2, 0.9), ("m", "tuned", 1): run(3, 0.1, 0.3, 0.5)}
    # differences .5 - .4 = .1 and .5 - .2 = .3: mean .2, deviation .1 * sqrt(2), half 12.706205 * .1 = 1.270620
    assert at_equal_seconds(found, runs, "m", [0, 1]) == {
        "seconds": 2.5,
        "base": {"evaluations": 1.5, "top_1": 0.3},
        "tuned": {"evaluations": 2.0, "top_1": 0.5},
        "difference": {"estimate": 0.2, "low": -1.07062, "high": 1.47062},
    }


# ---- held-out qualities, with the real referee

NEAREST = "def select_next_node(c, d, u, m):\n    return u[0]\n"
FARTHEST = "def select_next_node(c, d, u, m):\n    return u[-1]\n"
# Judged ok by whoever made the row, and no program of the held-out instances.
BROKEN = "def select_next_node(c, d, u, m):\n    return u[len(m)]\n"


def written(program: str | None, score: float | None) -> dict[str, Any]:
    """A row of run_searches as far as judged_runs reads it."""
    return {"program": program, "score": score, "costs": None if score is None else [-score], "operation": "e1"} | {
        "parents": ["template"],
        "status": "no_program" if program is None else "ok",
        "reason": "",
        "n_prompt_tokens": 1,
        "n_tokens": 1,
    }


def test_best_and_ranked_programs_are_judged_on_held_out_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = {
        ("eoh", "base", 0): [written(None, None), written(FARTHEST, -9.0), written(NEAREST, -7.0)],
        ("eoh", "tuned", 0): [written(NEAREST, -7.0), written(BROKEN, -6.0)],
    }
    with Referee(TASK, "test", max_slowdown=1, memory_mib=256) as referee:
        (near, far) = (verdict.score for verdict in referee.judge([NEAREST, FARTHEST]))
        runs = judged_runs(found, referee, "validation", "test")
    assert near and far and near > far
    good, bad = TASK.quality(near, "test"), TASK.quality(far, "test")
    base, tuned = runs["eoh", "base", 0], runs["eoh", "tuned", 0]
    assert [row["best_quality"] for row in base] == [0.0, bad, good]
    assert [(row["rank"], row["quality"]) for row in base] == [(None, None), (2, bad), (1, good)]
    assert [row["best_quality"] for row in tuned] == [good, 0.0]  # the best by guide fails on what is held out
    assert [(row["rank"], row["quality"]) for row in tuned] == [(2, good), (1, 0.0)]
    reference = TASK.reference("validation")
    guided = [row["guide_quality"] for row in base]
    assert guided == [0.0, pytest.approx(reference / 9.0), pytest.approx(reference / 7.0)]
    assert [(row["method"], row["model"], row["seed"]) for row in tuned] == [("eoh", "tuned", 0)] * 2
    table = pa.Table.from_pylist(base + tuned, schema=SEARCH_SCHEMA)
    assert set(base[0]) >= set(SEARCH_SCHEMA.names) and len(table) == 5
    assert len({row["evaluation"] for row in base}) == 3
