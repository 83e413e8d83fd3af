"""What every strategy promises, mixtures, DAR's probabilities, and what is refused. By hand: test_strategies."""

import json
import math
import random
import re
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartune.errors import UserError
from dartune.pairs import strategies
from dartune.pairs.sample import check_order, connect, fitting, run
from scored_pools import OPTIONS, changed, chi_square, drawn, pool, published

FOUR_SUBSETS = {name: {"n_subsets": 4} for name in ("dar", "dar_behaviour", "dar_authors_code")}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# Few different scores, so that ties are common; half of the pools have failures; some have one program or one score.
SCORES = st.lists(st.one_of(st.integers(-4, 8).map(float), st.none()), min_size=1, max_size=40)


@pytest.mark.parametrize("strategy", strategies.strategies())
@settings(max_examples=15, deadline=None, database=None)
@given(scores=SCORES)
def test_chosen_is_better_and_no_program_is_used_twice_in_any_pool(
    strategy: str, tmp_path_factory: pytest.TempPathFactory, scores: list[float | None]
) -> None:
    file = pool(tmp_path_factory.mktemp("pool"), scores, prompt=[f"prompt {i % 2}" for i in range(len(scores))])
    pairs = drawn(file, strategy, 8, **FOUR_SUBSETS)
    assert [pair["pair"] for pair in pairs] == list(range(1, len(pairs) + 1)) and len(pairs) <= 8
    valid = [score for score in scores if score is not None]
    for pair in pairs:
        better, worse = (scores[int(pair[role][1:])] for role in ("chosen", "rejected"))
        assert (pair["chosen_score"], pair["rejected_score"]) == (better, worse)
        assert better is not None and (better > worse if worse is not None else strategy == "valid_invalid")
        assert pair["chosen_rank"] == pytest.approx(sum(score > better for score in valid) / len(valid))
        if worse is not None:
            assert pair["rejected_rank"] == pytest.approx(sum(score > worse for score in valid) / len(valid))
        if strategy in ("dar", "dar_behaviour", "shuffled"):
            assert 1 <= pair["chosen_subset"] <= pair["rejected_subset"] - 2 <= 2
    roles = {"top_k": ["rejected"], "dar_authors_code": []}.get(strategy, ["chosen", "rejected"])
    used = [pair[role] for pair in pairs for role in roles]
    assert len(set(used)) == len(used)


@pytest.mark.parametrize("strategy", strategies.strategies())
@settings(max_examples=6, deadline=None, database=None)
@given(scores=SCORES, chance=st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_nothing_for_distinct_programs(
    strategy: str, tmp_path_factory: pytest.TempPathFactory, scores: list[float | None], chance: random.Random
) -> None:
    file = pool(tmp_path_factory.mktemp("pool"), scores)
    pairs = drawn(file, strategy, 8, **FOUR_SUBSETS)
    table = pq.read_table(file)
    pq.write_table(table.take(chance.sample(range(len(table)), len(table))), file)
    assert drawn(file, strategy, 8, **FOUR_SUBSETS) == pairs


@pytest.mark.parametrize("strategy", strategies.strategies())
def test_the_same_seed_draws_the_same_pairs_and_another_seed_others(tmp_path: Path, strategy: str) -> None:
    # every score twice, so that chance decides in best_worst too; n_pairs below what the pool can give
    file = pool(tmp_path, [float(i // 2) for i in range(200)] + [None] * 20)
    first, again, other = (drawn(file, strategy, 20, seed=seed) for seed in (3, 3, 4))
    assert len(first) == 20
    assert first == again and first != other


@pytest.mark.parametrize("strategy", strategies.strategies())
def test_minimising_x_and_maximising_minus_x_give_the_same_pairs(tmp_path: Path, strategy: str) -> None:
    # the score is -x in both; costs are x, or -x
    values = [[float((7 * i + 3 * k) % 31) for k in range(3)] for i in range(60)]
    scores: list[float | None] = [-sum(costs) / 3 for costs in values]
    minimised = drawn(pool(tmp_path, scores, costs=values), strategy, 10, **FOUR_SUBSETS)
    negative = [[-cost for cost in costs] for costs in values]
    maximised = drawn(pool(tmp_path, scores, costs=negative), strategy, 10, **FOUR_SUBSETS)
    assert minimised == maximised and minimised


@pytest.mark.parametrize("strategy", ["uniform", "best_worst"])
def test_negated_scores_give_the_mirrored_pairs(tmp_path: Path, strategy: str) -> None:
    scores = [float(i % 23) for i in range(60)]
    pairs = drawn(pool(tmp_path, scores), strategy, 30)
    mirrored = drawn(pool(tmp_path, [-score for score in scores]), strategy, 30)
    assert pairs and [(pair["rejected"], pair["chosen"]) for pair in pairs] == [
        (pair["chosen"], pair["rejected"]) for pair in mirrored
    ]


@pytest.mark.parametrize("strategy", strategies.strategies())
def test_with_negated_scores_chosen_is_better_by_the_negated_score(tmp_path: Path, strategy: str) -> None:
    pairs = drawn(pool(tmp_path, [-float(i % 23) for i in range(60)]), strategy, 10, **FOUR_SUBSETS)
    assert pairs and all(int(pair["chosen"][1:]) % 23 < int(pair["rejected"][1:]) % 23 for pair in pairs)


@pytest.mark.parametrize("strategy", strategies.strategies())
def test_of_one_program_no_pair_is_drawn(tmp_path: Path, strategy: str) -> None:
    assert drawn(pool(tmp_path, [1.0]), strategy, 5) == []


@pytest.mark.parametrize("strategy", sorted(set(strategies.strategies()) - {"valid_invalid"}))
def test_failures_take_no_part(tmp_path: Path, strategy: str) -> None:
    pairs = drawn(pool(tmp_path, [None, None, *(float(i) for i in range(40)), None]), strategy, 20, **FOUR_SUBSETS)
    assert pairs and all(pair[f"{role}_score"] is not None for pair in pairs for role in ("chosen", "rejected"))


def test_the_first_program_of_each_fingerprint_takes_part(tmp_path: Path) -> None:
    # texts 0 1 2 3, each three times; only the first four rows may be drawn
    file = pool(tmp_path, [1.0, 2.0, 3.0, 4.0] * 3, text=[0, 1, 2, 3] * 3)
    with connect(file, 256) as connection:
        rows = [row for seed in range(10) for row in run(connection, "uniform", OPTIONS, 5, seed).to_pylist()]
    assert {row[role] for row in rows for role in ("chosen", "rejected")} == {0, 1, 2, 3}


@pytest.mark.parametrize("one_per", ["text", "tree", "shape", "behaviour", "score_signature"])
def test_one_program_takes_part_per_fingerprint_of_the_given_kind(tmp_path: Path, one_per: str) -> None:
    # 40 programs of 10 kinds: five pairs; by any other trait there would be twenty
    kinds = [f"behaviour {i % 10}" if one_per == "behaviour" else i % 10 for i in range(40)]
    file = pool(tmp_path, [float(i) for i in range(40)], **{one_per: kinds})
    assert len(drawn(file, "best_worst", 40, best_worst={"one_per": one_per})) == 5
    assert len(drawn(file, "best_worst", 40, best_worst={"one_per": "text" if one_per != "text" else "tree"})) == 20


def test_the_parts_of_a_mixture_have_their_shares_and_share_no_program(tmp_path: Path) -> None:
    file = pool(tmp_path, [float(i) for i in range(300)] + [None] * 30)
    pairs = drawn(file, {"dar": 0.5, "top_k": 0.1, "valid_invalid": 0.2, "uniform": 0.2}, 50)
    assert [pair["pair"] for pair in pairs] == list(range(1, 51))
    names = [pair["strategy"] for pair in pairs]
    assert names == ["dar"] * 25 + ["top_k"] * 5 + ["valid_invalid"] * 10 + ["uniform"] * 10
    parts = {
        name: {row[role] for row in pairs if row["strategy"] == name for role in ("chosen", "rejected")}
        for name in names
    }
    assert sum(map(len, parts.values())) == len(set.union(*parts.values()))


def test_the_numbers_of_pairs_of_the_parts_add_up_after_rounding(tmp_path: Path) -> None:
    # thirds of ten: borders at round(3.33) = 3 and round(6.67) = 7, so 3, 4, 3
    file = pool(tmp_path, [float(i) for i in range(100)])
    pairs = drawn(file, {"uniform": 1 / 3, "best_worst": 1 / 3, "evotune": 1 / 3}, 10)
    assert Counter(pair["strategy"] for pair in pairs) == {"uniform": 3, "best_worst": 4, "evotune": 3}


def test_a_part_that_starts_from_dar_starts_from_unused_programs(tmp_path: Path) -> None:
    file = pool(tmp_path, [float(i) for i in range(100)])
    pairs = drawn(file, {"dar": 0.5, "shuffled": 0.5}, 20)
    assert len({pair[role] for pair in pairs for role in ("chosen", "rejected")}) == 40


def test_no_copy_of_a_program_is_in_two_parts_of_a_mixture(tmp_path: Path) -> None:
    # 20 programs, each twice in the pool: together the two parts can make ten pairs, not twenty
    file = pool(tmp_path, [float(i // 2) for i in range(40)], text=[i // 2 for i in range(40)])
    pairs = drawn(file, {"uniform": 0.5, "best_worst": 0.5}, 20)
    texts = [int(pair[role][1:]) // 2 for pair in pairs for role in ("chosen", "rejected")]
    assert len(texts) == len(set(texts))


@pytest.fixture(scope="module")
def large_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100,000 programs of different scores: ten subsets of 10,000, none of which runs out in 10,000 pairs."""
    return pool(tmp_path_factory.mktemp("large"), [float(i) for i in range(100_000)])


def test_dar_draws_the_chosen_subset_with_the_papers_probabilities(large_pool: Path) -> None:
    pairs = drawn(large_pool, "dar", 10_000)
    subsets = Counter(pair["chosen_subset"] for pair in pairs)
    # exp((8 - i) / 3) for i = 1..8, divided by its sum; 24.3: chi-square, 7 degrees of freedom, 0.1 %
    shares = [0.3048, 0.2184, 0.1565, 0.1121, 0.0804, 0.0576, 0.0412, 0.0290]
    assert set(subsets) == set(range(1, 9))
    assert chi_square([subsets[i] for i in range(1, 9)], shares) < 24.3
    # rejected uniform over i+2..10, so its mean is (i + 12) / 2 and the mean gap (12 - 2.926) / 2 = 4.54, give or take
    # 0.023; that a fifth of the pool is used up changes it by 0.01
    gap = sum(pair["rejected_subset"] - pair["chosen_subset"] for pair in pairs) / len(pairs)
    assert gap == pytest.approx(4.54, abs=0.1)


def test_the_authors_code_draws_the_chosen_subset_out_of_m_minus_3(large_pool: Path) -> None:
    pairs = drawn(large_pool, "dar_authors_code", 10_000)
    subsets = Counter(pair["chosen_subset"] for pair in pairs)
    # exp(-i / 3) for i = 1..7, divided by its sum; 22.5: chi-square, 6 degrees of freedom, 0.1 %
    weights = [math.exp(-i / 3) for i in range(1, 8)]
    assert set(subsets) == set(range(1, 8))
    assert chi_square([subsets[i] for i in range(1, 8)], [weight / sum(weights) for weight in weights]) < 22.5
    # the mean of i is 2.776, the mean gap (12 - 2.776) / 2 = 4.61
    gap = sum(pair["rejected_subset"] - pair["chosen_subset"] for pair in pairs) / len(pairs)
    assert gap == pytest.approx(4.61, abs=0.1)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused(tmp_path: Path, score: float) -> None:
    file = pool(tmp_path, [score, *(float(i) for i in range(30))])
    with pytest.raises(UserError, match="1 scores of t are not finite numbers; run stage score again"):
        published(tmp_path, file, "uniform", 5)


def test_a_pool_without_a_valid_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of 3 programs of t is ok; metrics/score/t\.json counts the reasons"):
        published(tmp_path, pool(tmp_path, [None] * 3), "uniform", 5)


@pytest.mark.parametrize("strategy", ["dar", "dar_behaviour", "dar_authors_code", "shuffled", "random_matched"])
def test_a_pool_too_small_for_the_subsets_is_refused_with_what_to_do(tmp_path: Path, strategy: str) -> None:
    name = strategy if strategy.startswith("dar") else "dar"
    fewest = 4 if strategy == "dar_authors_code" else 3
    words = (
        f"sample: 5 distinct programs of t with 5 scores are ok; {2 * fewest} with {fewest} are the least for {name}. "
        "Raise pool.n_programs, let a larger model write (pool.source), or take another one_per"
    )
    with pytest.raises(UserError, match=re.escape(words)):
        published(tmp_path, pool(tmp_path, [float(i) for i in range(5)]), strategy, 5)


def test_a_pool_of_few_scores_has_fewer_subsets_and_the_sheet_says_so(tmp_path: Path) -> None:
    scores = [float(i % 5) for i in range(60)]
    _, metrics, sheet = published(tmp_path, pool(tmp_path, scores), "dar", 5)
    line = "5 subsets instead of 10: 60 distinct programs with 5 scores"
    assert line in json.loads(metrics.read_text())["warnings"] and line in sheet.read_text()
    assert "n_subsets = 5" in sheet.read_text()


def test_copies_of_the_template_take_part_up_to_their_limit(tmp_path: Path) -> None:
    scores = [1.0] * 30 + [float(i) for i in range(2, 12)]
    file = pool(tmp_path, scores, equals_template=[score == 1 for score in scores])
    with connect(file, 256, 4) as connection:
        found = connection.execute("select score from candidates('text', 0)").fetchall()
    assert sorted(score for (score,) in found) == [1.0] * 4 + scores[30:]


def test_programs_are_counted_by_the_strategys_own_fingerprint(tmp_path: Path) -> None:
    # 24 texts that act in 12 ways: enough for ten subsets by text, as dar and its authors' code count, not by behaviour
    file = pool(tmp_path, [float(i) for i in range(24)], behaviour=[f"behaviour {i % 12}" for i in range(24)])
    with connect(file, 256) as connection:
        _, lines = fitting("t", connection, {"dar_behaviour": 1.0}, OPTIONS)
        assert lines == ["6 subsets instead of 10: 12 distinct programs with 12 scores"]
        assert fitting("t", connection, {"dar": 1.0}, OPTIONS) == (OPTIONS, [])
        assert fitting("t", connection, {"dar_authors_code": 1.0}, OPTIONS) == (OPTIONS, [])


def test_a_pool_of_one_score_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"40 distinct programs of t with 1 scores are ok; 6 with 3 are the least for dar"
    ):
        published(tmp_path, pool(tmp_path, [1.0] * 40), "dar", 5)


def test_a_pool_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    file = pool(tmp_path, [1.0, 2.0])
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match="not a whole Parquet file"):
        published(tmp_path, file, "uniform", 5)


@pytest.mark.parametrize(("better", "worse"), [(1.0, 1.0), (1.0, 2.0), (None, 1.0), (None, None), (math.nan, 1.0)])
def test_pairs_in_the_wrong_order_are_refused_whatever_made_them(better: float | None, worse: float | None) -> None:
    scores = {
        "chosen_score": pa.array([2.0, better], pa.float64()),
        "rejected_score": pa.array([None, worse], pa.float64()),
    }
    with pytest.raises(UserError, match="chosen is not better than rejected in pair 7"):
        check_order(pa.table({"pair": [6, 7], **scores}))


def test_a_new_strategy_is_a_file_and_its_pairs_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = "null::int as chosen_subset, null::int as rejected_subset from scored"
    for name, chosen, rejected in (("forwards", "arg_max", "arg_min"), ("backwards", "arg_min", "arg_max")):
        rows = f"{chosen}(file_row_number, score) as chosen, {rejected}(file_row_number, score) as rejected"
        (tmp_path / f"{name}.sql").write_text(
            f"-- in: scored\nselect 1 as pair, {rows}, {columns} where $n_pairs > $seed"
        )
    monkeypatch.setattr(strategies, "SQL", tmp_path)
    file = pool(tmp_path, [2.0, 1.0, 3.0])
    with pytest.raises(UserError, match="chosen is not better than rejected in pair 1"):
        published(tmp_path, file, "backwards", 5)
    assert not (tmp_path / "pairs.parquet").exists()
    pairs = pq.read_table(published(tmp_path, file, "forwards", 5)[0]).to_pylist()
    assert [(pair["strategy"], pair["chosen"], pair["rejected"]) for pair in pairs] == [("forwards", "p2", "p1")]


def test_duckdb_refuses_a_parameter_that_the_strategy_does_not_know(tmp_path: Path) -> None:
    with connect(pool(tmp_path, [1.0]), 256) as connection, pytest.raises((UserError, duckdb.Error)):
        run(connection, "dar", changed({"dar": {"temperature": 1.0}}), 5, 0)
