"""DAR in SQL, against numbers from METHOD: M = 10, tau = 3, chosen in 1..M-2, rejected at least two subsets below."""

import re
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartune.mistake import Mistake
from dartune.sampling import SQL, check_order, check_size, draw

PAPER = {"n_subsets": 10, "gap": 2, "tau": 3.0, "one_per": "score_signature"}


def scored(folder: Path, scores: list[float | None], programs: list[str] | None = None) -> Path:
    """A scored pool: a score of None is a failure."""
    n = len(scores)
    table = pa.table(
        {
            "id": [f"p{i:04d}" for i in range(n)],
            "program": programs or [f"program {i}" for i in range(n)],
            "status": ["runtime" if score is None else "ok" for score in scores],
            "score": pa.array(scores, pa.float64()),
            "costs": pa.array([None if s is None else [-s] for s in scores], pa.list_(pa.float64())),
        }
    )
    pq.write_table(table, folder / "scored.parquet")
    return folder / "scored.parquet"


def test_subsets_are_drawn_with_the_papers_probabilities(tmp_path: Path) -> None:
    file = scored(tmp_path, [float(i) for i in range(4000)])
    drawn: Counter[int] = Counter()
    for seed in range(20):
        pairs = draw("dar", file, n_pairs=100, seed=seed, **PAPER).to_pylist()
        drawn.update(pair["chosen_subset"] for pair in pairs)
    # exp((8 - i) / 3) for i = 1..8, divided by its sum
    expected = [0.305, 0.218, 0.156, 0.112, 0.080, 0.057, 0.041, 0.030]
    chi_square = sum((drawn[i + 1] - 2000 * p) ** 2 / (2000 * p) for i, p in enumerate(expected))
    assert chi_square < 24.3  # 0.1 % point of chi-square with 7 degrees of freedom


def test_every_rule_of_the_paper_holds_in_every_pair(tmp_path: Path) -> None:
    file = scored(tmp_path, [float(i % 97) + i / 1000 for i in range(500)])
    pairs = draw("dar", file, n_pairs=150, seed=1, **PAPER).to_pylist()
    assert len(pairs) == 150
    assert all(pair["chosen_score"] > pair["rejected_score"] for pair in pairs)
    assert all(1 <= pair["chosen_subset"] <= pair["rejected_subset"] - 2 <= 8 for pair in pairs)
    used = [pair[role] for pair in pairs for role in ("chosen", "rejected")]
    assert len(set(used)) == len(used)


def test_with_four_programs_and_four_subsets_there_is_one_way_for_the_first_pair(tmp_path: Path) -> None:
    # one program a subset, gap 3: only (1, 4), and after it nothing is left to pair
    file = scored(tmp_path, [1.0, 4.0, 3.0, 2.0])
    pairs = draw("dar", file, n_pairs=5, n_subsets=4, gap=3, tau=3.0, one_per="text", seed=0).to_pylist()
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [("p0001", "p0000")]


def test_rejected_programs_are_uniform_over_what_is_left_below(tmp_path: Path) -> None:
    # M = 3, gap 1, tau -> 0: chosen from subset 1; rejected uniform over the 8 programs of subsets 2 and 3
    file = scored(tmp_path, [float(i) for i in range(12)])
    rule = {"n_subsets": 3, "gap": 1, "tau": 0.01, "one_per": "text", "n_pairs": 1}
    drawn = Counter(draw("dar", file, seed=seed, **rule).to_pylist()[0]["rejected"] for seed in range(160))
    assert set(drawn) == {f"p{i:04d}" for i in range(8)}
    assert sum((n - 20) ** 2 / 20 for n in drawn.values()) < 24.3  # chi-square, 7 degrees of freedom, 0.1 %


def test_a_border_never_splits_a_score(tmp_path: Path) -> None:
    # 60 of 100 programs share the best score: they are all of subset 1, and subsets 2 to 6 are empty
    file = scored(tmp_path, [50.0] * 60 + [float(i) for i in range(40)])
    pairs = draw("dar", file, n_pairs=30, seed=0, **PAPER | {"one_per": "text"}).to_pylist()
    subsets = {(pair["chosen_score"] == 50.0, pair["chosen_subset"] == 1) for pair in pairs}
    assert subsets <= {(True, True), (False, False)}
    assert {pair["rejected_subset"] for pair in pairs} <= {7, 8, 9, 10}


def test_one_program_per_score_signature_unless_asked_otherwise(tmp_path: Path) -> None:
    file = scored(tmp_path, [float(i // 10) for i in range(400)])
    once = draw("dar", file, n_pairs=100, seed=0, **PAPER).to_pylist()
    scores = [pair[f"{role}_score"] for pair in once for role in ("chosen", "rejected")]
    assert len(set(scores)) == len(scores) <= 40
    assert len(draw("dar", file, n_pairs=100, seed=0, **PAPER | {"one_per": "text"})) == 100


def test_programs_of_the_same_text_count_once(tmp_path: Path) -> None:
    file = scored(tmp_path, [float(i) for i in range(100)], ["same"] * 90 + [f"other {i}" for i in range(10)])
    pairs = draw("dar", file, n_pairs=50, seed=0, **PAPER | {"one_per": "text"}).to_pylist()
    assert sum(int(pair[role][1:]) < 90 for pair in pairs for role in ("chosen", "rejected")) <= 1


def test_failures_take_no_part(tmp_path: Path) -> None:
    file = scored(tmp_path, [None, 1.0] * 50 + [float(i) for i in range(50)])
    pairs = draw("dar", file, n_pairs=10, seed=0, **PAPER).to_pylist()
    assert all(pair[f"{role}_score"] is not None for pair in pairs for role in ("chosen", "rejected"))


def test_the_same_seed_draws_the_same_pairs_and_another_seed_others(tmp_path: Path) -> None:
    file = scored(tmp_path, [float(i) for i in range(200)])
    first, again, other = (draw("dar", file, n_pairs=40, seed=seed, **PAPER) for seed in (3, 3, 4))
    assert first.equals(again) and not first.equals(other)


def test_the_header_of_each_strategy_lists_the_columns_that_it_returns(tmp_path: Path) -> None:
    file = scored(tmp_path, [float(i) for i in range(100)])
    for sql in SQL.glob("*.sql"):
        out = re.search(r"^-- out: (.*)$", sql.read_text(), re.MULTILINE)
        assert out is not None
        assert draw(sql.stem, file, n_pairs=5, seed=0, **PAPER).column_names == out[1].split(", ")


def test_duckdb_refuses_a_parameter_that_the_strategy_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(duckdb.Error):
        draw("dar", scored(tmp_path, [1.0]), n_pairs=5, seed=0, temperature=1.0, **PAPER)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 12).map(float)), min_size=1, max_size=60), st.integers(3, 8))
def test_whatever_the_pool_no_pair_is_wrong_and_no_program_is_used_twice(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float | None], n_subsets: int
) -> None:
    file = scored(tmp_path_factory.mktemp("pool"), scores)
    rule = {"n_subsets": n_subsets, "gap": 2, "tau": 3.0, "one_per": "text"}
    pairs = draw("dar", file, n_pairs=40, seed=0, **rule).to_pylist()
    used = [pair[role] for pair in pairs for role in ("chosen", "rejected")]
    assert len(set(used)) == len(used)
    assert all(pair["chosen_score"] > pair["rejected_score"] for pair in pairs)


def test_a_pool_too_small_for_the_subsets_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = scored(tmp_path, [1.0, 2.0, None])
    with pytest.raises(Mistake, match=r"2 different programs of t are ok; at least 20 .* Raise pool.n_programs"):
        check_size("t", file, 10, "text")


def test_a_pool_without_a_valid_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="none of 3 programs of t is ok"):
        check_size("t", scored(tmp_path, [None] * 3), 10, "text")


def test_pairs_in_the_wrong_order_are_refused_whatever_made_them() -> None:
    with pytest.raises(Mistake, match="not better than rejected in pair 7"):
        check_order(pa.table({"pair": [7], "chosen_score": [1.0], "rejected_score": [1.0]}))
