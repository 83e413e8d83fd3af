"""Each strategy but DAR by hand: pools where the pairs are forced, or where all can be listed; and all their headers.

Pairs are written as (score of the chosen program, score of the rejected one).
"""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from dartune.pairs.sample import connect, run
from dartune.pairs.strategies import header, statement, strategies
from scored_pools import OPTIONS, chi_square, drawn, draws, pool


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# top_k


def test_top_1_is_always_chosen_and_every_other_program_rejected_once(tmp_path: Path) -> None:
    file = pool(tmp_path, [3.0, 5.0, 1.0, 4.0, 2.0])
    for pairs in draws(file, "top_k", 10, range(5), top_k={"top": 1}):
        assert sorted(pairs) == [(5, 1), (5, 2), (5, 3), (5, 4)]
    assert len(draws(file, "top_k", 3, [0], top_k={"top": 1})[0]) == 3


def test_the_programs_of_the_top_share_take_turns(tmp_path: Path) -> None:
    # 0.4 of five: 5 and 4, in turns for the three that are left: a b a
    for pairs in draws(pool(tmp_path, [3.0, 5.0, 1.0, 4.0, 2.0]), "top_k", 10, range(5), top_k={"top": 0.4}):
        (first, second, third), rejected = zip(*pairs, strict=True)
        assert first == third and {first, second} == {5, 4}
        assert set(rejected) == {3, 2, 1}


def test_a_program_that_ties_with_the_top_is_not_used(tmp_path: Path) -> None:
    assert draws(pool(tmp_path, [5.0, 5.0, 4.0]), "top_k", 10, [0], top_k={"top": 1}) == [[(5, 4)]]


def test_a_share_of_less_than_one_program_is_one_program(tmp_path: Path) -> None:
    assert draws(pool(tmp_path, [5.0, 6.0]), "top_k", 10, [0], top_k={"top": 0.01}) == [[(6, 5)]]


# uniform


def test_uniform_pairs_four_programs_in_each_way_equally_often(tmp_path: Path) -> None:
    # {43, 21}, {42, 31}, {41, 32}; chi-square, 2 degrees of freedom, 0.1 %: 13.8
    ways = Counter(frozenset(pairs) for pairs in draws(pool(tmp_path, [1.0, 2.0, 3.0, 4.0]), "uniform", 5, range(150)))
    assert set(ways) == {frozenset({(4, 3), (2, 1)}), frozenset({(4, 2), (3, 1)}), frozenset({(4, 1), (3, 2)})}
    assert chi_square(ways.values(), [1 / 3] * 3) < 13.8


def test_uniform_makes_no_pair_of_equal_scores(tmp_path: Path) -> None:
    # 2 2 1 1: both twos with ones in 2 of 3 ways, or two twos and two ones, which are no pairs
    found = draws(pool(tmp_path, [2.0, 2.0, 1.0, 1.0]), "uniform", 5, range(20))
    assert {tuple(pairs) for pairs in found} == {((2, 1), (2, 1)), ()}


# best_worst


def test_best_worst_pairs_from_both_ends_and_leaves_the_middle(tmp_path: Path) -> None:
    file = pool(tmp_path, [3.0, 5.0, 1.0, 4.0, 2.0])
    assert draws(file, "best_worst", 10, range(3)) == [[(5, 1), (4, 2)]] * 3
    assert draws(file, "best_worst", 1, [0]) == [[(5, 1)]]


def test_best_worst_stops_at_equal_scores(tmp_path: Path) -> None:
    assert draws(pool(tmp_path, [5.0, 3.0, 3.0, 3.0, 1.0]), "best_worst", 10, range(3)) == [[(5, 1)]] * 3


# evotune


def test_evotune_pairs_the_better_half_of_the_scores_with_the_worse(tmp_path: Path) -> None:
    # 9 8 8 7 6 5: five different scores, two in the better half, so (9, 7), (8, 6) and (8, 5)
    file = pool(tmp_path, [7.0, 8.0, 9.0, 5.0, 8.0, 6.0])
    for pairs in draws(file, "evotune", 10, range(3), evotune={"percentile": 0}):
        assert sorted(pairs) == [(8, 5), (8, 6), (9, 7)]


def test_evotune_chooses_no_program_below_the_percentile(tmp_path: Path) -> None:
    # 9 8 7 6 5: the median is 7; the quantile 0.8 lies at place 3.2, 8.2, and leaves (9, 7) only
    file = pool(tmp_path, [9.0, 8.0, 7.0, 6.0, 5.0])
    assert sorted(draws(file, "evotune", 10, [0], evotune={"percentile": 0.5})[0]) == [(8, 6), (9, 7)]
    assert draws(file, "evotune", 10, [0], evotune={"percentile": 0.8}) == [[(9, 7)]]


def test_evotune_compares_answers_to_the_same_prompt_only(tmp_path: Path) -> None:
    # prompt a: 10 and 9; b: 2 and 1; c: 5
    file = pool(tmp_path, [10.0, 2.0, 9.0, 1.0, 5.0], prompt=["a", "b", "a", "b", "c"])
    assert sorted(draws(file, "evotune", 10, [0], evotune={"percentile": 0})[0]) == [(2, 1), (10, 9)]
    # hands are dealt for each prompt: with hands of two, both pairs whatever the seed
    for pairs in draws(file, "evotune", 10, range(5), evotune={"n_outputs": 2, "percentile": 0}):
        assert sorted(pairs) == [(2, 1), (10, 9)]
    # the quantile is one of all scores: 1 2 5 9 10 has the median 5
    assert draws(file, "evotune", 10, [0], evotune={"percentile": 0.5}) == [[(10, 9)]]


def test_evotune_deals_the_answers_to_a_prompt_into_hands(tmp_path: Path) -> None:
    # four answers in hands of two: the three ways to pair them; in one hand of four always {42, 31}
    file = pool(tmp_path, [1.0, 2.0, 3.0, 4.0])
    dealt = draws(file, "evotune", 10, range(60), evotune={"n_outputs": 2, "percentile": 0})
    assert {frozenset(pairs) for pairs in dealt} == {
        frozenset({(4, 3), (2, 1)}),
        frozenset({(4, 2), (3, 1)}),
        frozenset({(4, 1), (3, 2)}),
    }
    at_once = draws(file, "evotune", 10, range(5), evotune={"n_outputs": 4, "percentile": 0})
    assert {frozenset(pairs) for pairs in at_once} == {frozenset({(4, 2), (3, 1)})}


# random_matched


def test_random_matched_pairs_the_programs_of_dar_anew(tmp_path: Path) -> None:
    file = pool(tmp_path, [float(i % 37) for i in range(200)])
    dar, matched = (drawn(file, strategy, 40) for strategy in ("dar", "random_matched"))
    for role in ("chosen", "rejected"):
        parts = [sorted((pair[role], pair[f"{role}_subset"]) for pair in pairs) for pairs in (dar, matched)]
        assert parts[0] == parts[1]
    assert all(pair["chosen_score"] > pair["rejected_score"] for pair in matched)
    same = {(pair["chosen"], pair["rejected"]) for pair in dar} & {
        (pair["chosen"], pair["rejected"]) for pair in matched
    }
    assert len(same) < 10  # of 40; one or two are expected


@pytest.mark.parametrize(
    ("chosen", "rejected", "n_ways"),
    [
        # 2 or 1 is better than 0 and -1: both ways
        ([2, 1], [0, -1], 2),
        # 5 is below 6 only, so 6 is taken; 3 is below 4 only then; one way
        ([6, 4, 2], [5, 3, 1], 1),
        # 4 is below 6 and 5; of the two that are left, 2 and 1 are below each: 2 x 2 x 1
        ([6, 5, 3], [4, 2, 1], 4),
        # all are better than all: 3!
        ([6, 5, 4], [3, 2, 1], 6),
        # a tie is no pair: 5 goes to 6, then 4 to the one five; 2 to the last
        ([6, 5, 3], [5, 4, 2], 1),
    ],
)
def test_random_matched_draws_every_allowed_pairing_equally_often(
    tmp_path: Path, chosen: list[int], rejected: list[int], n_ways: int
) -> None:
    # the SQL on pairs of dar that are given: program i is chosen[i], program n + i is rejected[i]
    n = len(chosen)
    scores = [float(score) for score in (*chosen, *rejected)]
    dar = pa.table(
        {
            "pair": range(1, n + 1),
            "chosen": range(n),
            "rejected": range(n, 2 * n),
            "chosen_subset": [1] * n,
            "rejected_subset": [3] * n,
        }
    )
    ways: Counter[frozenset[tuple[int, int]]] = Counter()
    with connect(pool(tmp_path, list(scores)), 256) as connection:
        connection.register("dar", dar)
        for seed in range(30 * n_ways):
            values = {"n_pairs": n, "seed": seed}
            found = connection.sql(statement("random_matched"), params=values).fetchall()
            ways[frozenset((row[1], row[2]) for row in found)] += 1
    assert all(scores[better] > scores[worse] for way in ways for better, worse in way)
    assert all(len({better for better, _ in way}) == len({worse for _, worse in way}) == n for way in ways)
    assert len(ways) == n_ways
    # 0.1 % points of chi-square with 1, 3 and 5 degrees of freedom
    assert chi_square(ways.values(), [1 / n_ways] * n_ways) < {1: 1, 2: 10.8, 4: 16.3, 6: 20.5}[n_ways]


# shuffled


def test_shuffled_is_dar_with_about_half_of_the_labels_flipped(tmp_path: Path) -> None:
    file = pool(tmp_path, [float(i) for i in range(1000)])
    dar, shuffled = (drawn(file, strategy, 200) for strategy in ("dar", "shuffled"))
    for row, other in zip(dar, shuffled, strict=True):
        assert other["chosen_score"] > other["rejected_score"] and not row["is_flipped"]
        assert row == other | {"strategy": "dar", "is_flipped": False}
    # binomial of 200: standard deviation 7.07, four of them 28
    assert 72 <= sum(row["is_flipped"] for row in shuffled) <= 128


# valid_invalid


def test_valid_invalid_rejects_failures_in_a_share_of_the_pairs_of_dar(
    tmp_path: Path,
) -> None:
    file = pool(tmp_path, [float(i) for i in range(200)] + [None] * 50)
    dar = drawn(file, "dar", 20)
    pairs = drawn(file, "valid_invalid", 20, valid_invalid={"share": 0.32})
    changed_pairs = [row for row in pairs if row["rejected_score"] is None]
    assert (
        len(changed_pairs) == 6 == len({row["rejected"] for row in changed_pairs})
    )  # 0.32 x 20 = 6.4, each failure once
    assert all(int(row["rejected"][1:]) >= 200 and row["rejected_subset"] is None for row in changed_pairs)
    for row, other in zip(dar, pairs, strict=True):
        assert row["chosen"] == other["chosen"]
        assert other in changed_pairs or row == other | {"strategy": "dar"}


def test_valid_invalid_keeps_the_pairs_of_dar_once_failures_run_out(tmp_path: Path) -> None:
    file = pool(tmp_path, [None, None, *(float(i) for i in range(200))])
    pairs = drawn(file, "valid_invalid", 20, valid_invalid={"share": 1})
    assert len(pairs) == 20
    assert sorted(row["rejected"] for row in pairs if row["rejected_score"] is None) == ["p0", "p1"]


def test_failures_with_one_text_or_one_reason_count_once(tmp_path: Path) -> None:
    # failures: two of one text, two without a program and of one reason, one of another reason: three
    scores: list[float | None] = [None] * 5 + [float(i) for i in range(200)]
    texts = [7, 7, None, None, None, *range(100, 300)]
    reasons = ["x", "y", "no code", "no code", "cut off", *[""] * 200]
    pairs = drawn(pool(tmp_path, scores, text=texts, reason=reasons), "valid_invalid", 20, valid_invalid={"share": 1})
    assert sorted(row["rejected"] for row in pairs if row["rejected_score"] is None) == ["p0", "p2", "p4"]


# headers


@pytest.mark.parametrize("strategy", strategies())
def test_the_header_of_a_strategy_is_true(tmp_path: Path, strategy: str) -> None:
    with connect(pool(tmp_path, [float(i) for i in range(100)] + [None] * 5), 256) as connection:
        table = run(connection, strategy, OPTIONS, 10, 0)
    assert header(strategy, "grain") == ["one row per pair"]
    assert [table.column_names] == [out.split(", ") for out in header(strategy, "out")]
    assert len(header(strategy, "in")) == 1
    comments = [line for line in statement(strategy).splitlines() if line.startswith("--")]
    query = "\n".join(line for line in statement(strategy).splitlines() if not line.startswith("--"))
    prose = "\n".join(line for line in comments if not re.match("-- (grain|in|out|check):", line))
    used = set(re.findall(r"\$(\w+)", query)) - {"n_pairs", "seed"}
    assert used == set(re.findall(r"\$(\w+)", prose)) == set(OPTIONS.get(strategy, {}))
    assert {key for rule in header(strategy, "check") for key in re.findall(r"\$(\w+)", rule)} == used


@pytest.mark.parametrize("strategy", strategies())
def test_the_last_order_of_a_strategy_is_by_a_unique_column(tmp_path: Path, strategy: str) -> None:
    with connect(pool(tmp_path, [float(i // 2) for i in range(100)] + [None] * 5), 256) as connection:
        table = run(connection, strategy, OPTIONS, 10, 0)
    (key,) = re.findall(r"(?m)^order by (?:\w+\.)?(\w+)$", statement(strategy))
    assert len(table) == 10 and all(first < second for first, second in pairwise(table[key].to_pylist()))
