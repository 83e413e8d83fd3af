"""What two models found inside searches, and how far they differ: numbers worked out by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dartune.errors import UserError
from dartune.evaluation import search
from dartune.evaluation.search import at_equal_seconds, compare, leading, outcomes, ranked, summary, tops
from dartune.evaluation.statistics import T_975, t_interval
from dartune.files import parquet
from dartune.referee.referee import Referee
from dartune.report import searches
from dartune.report.searches import asked_of_models, comparison, costs, curve, read_searches
from dartune.tasks.task import Task

TASK = Task("tsp_construct")


def judged(score: float | None, *costs: float, **changed: Any) -> dict[str, Any]:
    """A row of a search; costs are the score's where none are given."""
    return {"score": score, "costs": None if score is None else list(costs or (-score,))} | changed


def rows(*scores: float | None) -> list[dict[str, Any]]:
    return [judged(score) for score in scores]


# ---- the best so far, and the ten best


def test_the_leader_is_the_best_so_far_and_of_equals_the_first() -> None:
    assert leading(rows(None, -3.0, -4.0, -3.0, None, -2.0, -2.0)) == [None, 1, 1, 1, 1, 5, 5]


def test_without_a_valid_program_nothing_leads() -> None:
    assert leading(rows(None, None)) == [None, None] and leading([]) == []


def test_the_leader_is_the_first_of_the_ranked_ones_in_the_end() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        found = rows(*(None if rng.random() < 0.3 else float(-rng.integers(1, 6)) for _ in range(30)))
        assert ranked(found)[leading(found)[-1]] == 1


def test_ranks_go_from_the_best_down_and_failures_have_none() -> None:
    assert ranked(rows(-3.0, None, -1.0, -2.0)) == {2: 1, 3: 2, 0: 3}
    assert ranked(rows(None)) == {} == ranked([])


def test_of_programs_that_cost_the_same_the_first_is_ranked_alone() -> None:
    same_mean = [judged(-2.0, 2.0, 2.0), judged(-2.0, 1.0, 3.0), judged(-2.0, 2.0, 2.0)]
    assert ranked(same_mean) == {0: 1, 1: 2}  # equal scores: the earlier one first


def test_at_most_ten_are_ranked() -> None:
    found = ranked(rows(*map(float, range(-30, 0))))
    assert found == {29 - i: i + 1 for i in range(10)}


def ranking(*qualities: float | None) -> list[dict[str, Any]]:
    """Rows of which those with a quality have the ranks 1, 2, ... in this order."""
    ranks = iter(range(1, 11))
    return [{"rank": None if q is None else next(ranks), "quality": q} for q in qualities]


def test_top_1_is_the_quality_of_the_best_by_guide_also_where_another_is_better_held_out() -> None:
    assert tops(ranking(0.7, 0.9, None)) == {"top_1": 0.7, "top_10": pytest.approx(0.8)}


def test_top_10_of_fewer_programs_is_the_mean_of_all() -> None:
    assert tops(ranking(0.5, 0.3, 0.1)) == {"top_1": 0.5, "top_10": pytest.approx(0.3)}
    assert tops(ranking(0.5)) == {"top_1": 0.5, "top_10": 0.5}


def test_top_10_counts_a_program_that_fails_on_the_held_out_instances_as_0() -> None:
    assert tops(ranking(0.8, 0.0)) == {"top_1": 0.8, "top_10": 0.4}


def test_a_search_that_found_nothing_has_0() -> None:
    assert tops(ranking(None, None)) == {"top_1": 0.0, "top_10": 0.0}


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


def test_a_comparison_has_means_over_seeds_and_the_differences_seed_by_seed() -> None:
    # top 1: base .5 .6 .7, tuned .6 .8 1.0: differences .1 .2 .3, mean .2, deviation .1, half 4.303 * .1 / sqrt(3)
    # top 10: base .4 .6 .6, tuned .5 .7 .9: differences .1 .1 .3, mean 1/6, deviation sqrt(.04 / 3) = .115470,
    # half 4.303 * .115470 / sqrt(3) = .286867
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
    assert found["difference"]["top_1"] == {"estimate": 0.2, "low": -0.048434, "high": 0.448434}
    assert found["difference"]["top_10"] == {"estimate": 0.166667, "low": -0.1202, "high": 0.453533}


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


def test_at_equal_seconds_an_evaluation_that_is_not_finished_does_not_count() -> None:
    # tuned ends after 3.9 s, when base has finished one of 2 s
    found = {("m", "base", 0): clocked(2, 2), ("m", "tuned", 0): clocked(1.3, 1.3, 1.3)}
    runs = {("m", "base", 0): run(2, 0.1, 0.9), ("m", "tuned", 0): run(3, 0.5)}
    at = at_equal_seconds(found, runs, "m", [0])
    assert (at["base"], at["tuned"]["evaluations"]) == ({"evaluations": 1.0, "top_1": 0.1}, 3.0)


def test_at_equal_seconds_a_model_that_has_finished_nothing_yet_has_0() -> None:
    found = {("m", "base", 0): clocked(9, 9), ("m", "tuned", 0): clocked(1, 1)}
    runs = {("m", "base", 0): run(2, 0.9, 0.9), ("m", "tuned", 0): run(2, 0.5)}
    assert at_equal_seconds(found, runs, "m", [0])["base"] == {"evaluations": 0.0, "top_1": 0.0}


def test_at_equal_seconds_all_of_two_runs_that_took_the_same_count_whatever_the_rounding() -> None:
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
    # differences .5 - .4 = .1 and .5 - .2 = .3: mean .2, deviation .1 * sqrt(2), half 12.706 * .1 = 1.2706
    assert at_equal_seconds(found, runs, "m", [0, 1]) == {
        "seconds": 2.5,
        "base": {"evaluations": 1.5, "top_1": 0.3},
        "tuned": {"evaluations": 2.0, "top_1": 0.5},
        "difference": {"estimate": 0.2, "low": -1.0706, "high": 1.4706},
    }


# ---- the t interval


def test_the_interval_of_three_seeds_takes_t_of_two_degrees_of_freedom() -> None:
    # mean 2, deviation 1, half 4.303 / sqrt(3) = 2.484338
    assert t_interval([1.0, 2.0, 3.0]) == {"estimate": 2.0, "low": -0.484338, "high": 4.484338}


def test_the_interval_of_two_seeds_takes_t_of_one() -> None:
    # deviation sqrt(.5), half 12.706 * sqrt(.5 / 2) = 6.353
    assert t_interval([0.0, 1.0]) == {"estimate": 0.5, "low": -5.853, "high": 6.853}


def test_one_seed_has_no_interval_and_equal_seeds_have_one_of_no_width() -> None:
    assert t_interval([0.3]) == {"estimate": 0.3, "low": None, "high": None}
    assert t_interval([0.25] * 4) == {"estimate": 0.25, "low": 0.25, "high": 0.25}


def test_from_ten_seeds_on_the_interval_is_that_of_nine_degrees_of_freedom() -> None:
    # -1 and 1 in turn: mean 0, deviation sqrt(n / (n - 1)), half 2.262 / sqrt(n - 1)
    for n in (10, 26):
        assert t_interval([-1.0, 1.0] * (n // 2))["high"] == pytest.approx(2.262 / (n - 1) ** 0.5, abs=1e-6)
    assert len(T_975) == 9 and list(T_975) == sorted(T_975, reverse=True)


def test_the_interval_of_seeds_without_a_difference_covers_zero_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        interval = t_interval(list(generator.normal(size=3)))
        covered += interval["low"] < 0 < interval["high"]
    assert 920 <= covered <= 976  # 950 expected, deviation 6.9


# ---- held-out qualities, with the real referee

NEAREST = "def select_next_node(c, d, u, m):\n    return u[0]\n"
FARTHEST = "def select_next_node(c, d, u, m):\n    return u[-1]\n"
# Judged ok by whoever made the row, and no program of the held-out instances.
BROKEN = "def select_next_node(c, d, u, m):\n    return u[len(m)]\n"


def written(program: str | None, score: float | None) -> dict[str, Any]:
    """A row of run_searches as far as outcomes reads it."""
    return {"program": program, "score": score, "costs": None if score is None else [-score], "operation": "e1"} | {
        "parents": ["template"],
        "status": "no_program" if program is None else "ok",
        "reason": "",
        "n_prompt_tokens": 1,
        "n_tokens": 1,
    }


def test_what_led_and_what_is_ranked_is_judged_on_the_held_out_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = {
        ("eoh", "base", 0): [written(None, None), written(FARTHEST, -9.0), written(NEAREST, -7.0)],
        ("eoh", "tuned", 0): [written(NEAREST, -7.0), written(BROKEN, -6.0)],
    }
    with Referee(TASK, "test", max_slowdown=1, memory_mib=256) as referee:
        (near, far) = (verdict.score for verdict in referee.judge([NEAREST, FARTHEST]))
        runs = outcomes(found, referee, "validation", "test")
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
    table = pa.Table.from_pylist(base + tuned, schema=search.ROW)
    assert set(base[0]) >= set(search.ROW.names) and len(table) == 5
    assert len({row["evaluation"] for row in base}) == 3


# ---- what the report reads

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


def test_searches_are_read_with_their_curves_and_without_what_was_not_measured_here(
    table: Path, tmp_path: Path
) -> None:
    figures: dict[str, Any] = {"eoh": {"n_seeds": 2}}
    found = read_searches("t", figures, table, tmp_path / "none.json")
    assert (found.figures, found.equal) == (figures, {})
    assert {model: each.tolist() for model, each in found.curves["eoh"].items()} == {
        "base": [[3.0, 3.1], [0.0, 0.1]],
        "tuned": [[3.0, 3.1], [0.0, 0.1]],
    }
    assert list(found.curves) == ["eoh"]
    (tmp_path / "resources.json").write_text(json.dumps({"seconds": 1.0, "at_equal_seconds": {"eoh": {"seconds": 2.0}}}))
    assert read_searches("t", figures, table, tmp_path / "resources.json").equal == {"eoh": {"seconds": 2.0}}


def test_a_table_of_searches_that_is_missing_cut_or_older_is_named(table: Path, tmp_path: Path) -> None:
    none = tmp_path / "none.json"
    with pytest.raises(UserError, match=r"^report: \S+gone.parquet is missing; stage search makes it$"):
        read_searches("t", {}, tmp_path / "gone.parquet", none)
    parquet.write(pa.Table.from_pylist(SEARCH).drop_columns(["best_quality"]), tmp_path / "old.parquet")
    with pytest.raises(UserError, match=r"old.parquet has no column 'best_quality'; run stage search again$"):
        read_searches("t", {}, tmp_path / "old.parquet", none)
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(UserError, match="not a whole Parquet file"):
        read_searches("t", {}, table, none)


def test_a_comparison_for_the_report_has_both_figures_of_each_method() -> None:
    first, second = ({"estimate": value, "low": None, "high": None} for value in (0.1, 0.2))
    figures = {
        "base": {"top_1": 0.5, "top_10": 0.4, "validity": 1.0},
        "tuned": {"top_1": 0.6, "top_10": 0.6, "validity": 1.0},
        "difference": {"top_1": first, "top_10": second},
    }
    found = comparison(searches.Searches({"eoh": figures, "independent": figures}, {}, {}))
    best, ten = {"label": "best program", "base": 0.5, "tuned": 0.6}, {"label": "mean of the ten best"}
    assert found == [
        {"method": method, **row}
        for method in ("eoh", "independent")
        for row in (best | first, ten | {"base": 0.4, "tuned": 0.6} | second)
    ]


def put(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def test_costs_are_those_of_the_stages_that_ran_in_their_order(tmp_path: Path) -> None:
    taken = {"seconds": 1.5, "cpu_seconds": 2.5, "peak_mib": 100}
    for stage in ("score", "train", "pool"):
        put(tmp_path / f"resources/{stage}/t.json", taken)
    put(tmp_path / "pool/t.json", {"n_programs": 60, "n_prompt_tokens": 7, "n_tokens": 8, "money": 0.5})
    put(tmp_path / "score/t.json", {"n_programs": 60, "validity": 0.9})
    put(tmp_path / "resources/sample/other.json", taken)
    nothing = dict.fromkeys(("evaluations", "n_prompt_tokens", "n_tokens", "money"))
    assert costs("t", tmp_path) == [
        {"stage": "pool", **nothing, **taken, "n_prompt_tokens": 7, "n_tokens": 8, "money": 0.5},
        {"stage": "score", **nothing, **taken, "evaluations": 60},
        {"stage": "train", **nothing, **taken},
    ]
    assert costs("nobody", tmp_path) == []


def test_an_evaluations_costs_are_the_samples_of_all_splits_and_the_tokens_of_one() -> None:
    # each completion is written once and judged on every split
    split = {
        model: {"n_samples": 20, "n_prompt_tokens": 100, "n_tokens": n} for model, n in (("base", 30), ("tuned", 40))
    }
    found = asked_of_models("evaluate", {"test": split, "shifted_20": split})
    assert found == {"evaluations": 80, "n_prompt_tokens": 200, "n_tokens": 70}


def test_a_searchs_costs_are_those_of_both_models_and_all_seeds() -> None:
    # eoh: 2 models, 3 seeds, 10 evaluations; sample: 2, 1, 5. Tokens are means over seeds
    def of(n: float) -> dict[str, float]:
        return {"n_prompt_tokens": 10 * n, "n_tokens": n}

    eoh = {"n_seeds": 3, "n_evaluations": 10, "base": of(100.333333), "tuned": of(50.0)}
    sample = {"n_seeds": 1, "n_evaluations": 5, "base": of(7.0), "tuned": of(8.0)}
    found = asked_of_models("search", {"eoh": eoh, "independent": sample})
    assert found == {"evaluations": 70, "n_prompt_tokens": 4660, "n_tokens": 466}  # 301 + 150 + 7 + 8 = 466


def test_a_stage_that_asks_no_model_has_no_such_costs() -> None:
    assert asked_of_models("sample", {"n_pairs": 3}) == asked_of_models("train", {}) == {}
