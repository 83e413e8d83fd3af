"""The data sheet of a set of pairs: figures by hand, warnings at their limits, and what stands in the Markdown."""

import json
import math
import random
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dartune.pairs.datasheet import below_noise, entropy, length_bias, mean_distance, pair_metrics, warnings_of
from dartune.pairs.sample import connect, draw
from dartune.referee import behaviour
from scored_pools import OPTIONS, pool, published

BEST_WORST = {"best_worst": 1.0}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def measured(file: Path, shares: dict[str, float], n_pairs: int, **options: Any) -> dict[str, Any]:
    with connect(file, 256) as connection:
        return pair_metrics(connection, draw(connection, shares, OPTIONS | options, n_pairs, 0), n_pairs)


def ten_programs(folder: Path, **columns: list[Any]) -> Path:
    """Scores 10 to 1, so that best_worst's pairs are (10, 1), (9, 2), (8, 3), (7, 4), (6, 5)."""
    return pool(folder, [float(i) for i in range(10, 0, -1)], **columns)


def test_gaps_are_given_in_scores_and_in_shares_of_the_pool(tmp_path: Path) -> None:
    sheet = measured(ten_programs(tmp_path), BEST_WORST, 8)
    assert (sheet["n_asked"], sheet["n_pairs"], sheet["parts"], sheet["n_flipped"]) == (8, 5, {"best_worst": 5}, 0)
    # gaps 9 7 5 3 1: the tenth at place 0.4, 1 + 0.4 x 2; nine tenths at place 3.6, 7 + 0.6 x 2
    assert sheet["gap_score"] == {"least": 1, "tenth": 1.8, "median": 5, "nine_tenths": 8.2, "greatest": 9}
    assert sheet["gap_rank"] == 0.5  # mean of 0.9 0.7 0.5 0.3 0.1


def test_programs_of_each_role_are_counted_by_tenth_of_the_pool(
    tmp_path: Path,
) -> None:
    sheet = measured(ten_programs(tmp_path), BEST_WORST, 5)
    assert list(sheet["chosen"]["by_tenth"].values()) == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert list(sheet["rejected"]["by_tenth"].values()) == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert list(sheet["chosen"]["by_tenth"])[0::9] == ["0-10 %", "90-100 %"]
    assert sheet["chosen"]["entropy"] == pytest.approx(math.log(5) / math.log(10), abs=1e-6)


def test_ties_count_in_the_best_tenth_that_they_reach(
    tmp_path: Path,
) -> None:
    # best_worst: three of the fives against 1, 2, 3; the rank of a five is 0, that of 3 0.7, 2 0.8, 1 0.9
    sheet = measured(pool(tmp_path, [5.0] * 7 + [3.0, 2.0, 1.0]), BEST_WORST, 5)
    assert list(sheet["chosen"]["by_tenth"].values()) == [3, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert list(sheet["rejected"]["by_tenth"].values()) == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]


def test_entropy_is_1_for_equal_counts_and_0_for_one_or_none() -> None:
    assert entropy(np.full(10, 7)) == 1
    assert entropy(np.array([0, 4, 0, 0])) == 0
    assert entropy(np.zeros(10, int)) == 0
    assert entropy(np.array([2, 1, 1, 0])) == 0.75  # 1/2 x 1 + 2 x 1/4 x 2 = 1.5 bits of 2


def test_mean_distance_is_twice_the_share_of_differing_bits_and_at_most_1() -> None:
    # signatures of sets of moves that overlap more or less, and two that are opposite in every bit: distance 1, not 2
    chance = np.random.default_rng(0)
    signatures = [list(behaviour.signature(chance.integers(0, 60, 40))) for _ in range(8)]
    signatures += [[0, 0], [2**64 - 1, 2**64 - 1]]
    differing = [sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True)) for a, b in combinations(signatures, 2)]
    by_hand = np.mean([min(1.0, 2 * n / 128) for n in differing])
    assert mean_distance(signatures) == pytest.approx(by_hand, abs=1e-6)


def test_mean_distance_by_hand() -> None:
    # two alike, and one that differs from each in 32 of 128 bits, distance 2 x 32 / 128: mean of 0, 1/2, 1/2
    assert mean_distance([[0, 0], [0, 0], [2**32 - 1, 0]]) == pytest.approx(1 / 3, abs=1e-6)
    assert mean_distance([[0, 0]]) is None and mean_distance([]) is None


def test_mean_distance_looks_at_the_first_500_programs_only() -> None:
    assert mean_distance([[0, 0]] * 500 + [[2**64 - 1, 2**64 - 1]] * 20) == 0


def test_length_bias_is_the_share_of_longer_chosen_programs_minus_half() -> None:
    def lengths(*values: int | None) -> list[dict[str, Any]]:
        return [{"n_characters": value} for value in values]

    # longer in three of five, as long in one, shorter in one: (3 + 1/2) / 5 - 1/2
    assert length_bias(lengths(9, 9, 9, 5, 1), lengths(1, 2, 3, 5, 7)) == pytest.approx(0.2)
    assert length_bias(lengths(1, 1), lengths(2, 2)) == -0.5
    assert length_bias(lengths(3, 3), lengths(None, 1)) == 0.5  # without a program there is no length
    assert length_bias(lengths(3), lengths(None)) == 0.0


def test_length_bias_compares_the_two_programs_of_each_pair(tmp_path: Path) -> None:
    # pairs (10, 1), (9, 2), ..: lengths 10 to 60 against 9, 21, 31, 41, 51, so longer in the first pair only: 1/5 - 1/2
    lengths = [10, 20, 30, 40, 50, 51, 41, 31, 21, 9]
    sheet = measured(ten_programs(tmp_path, n_characters=lengths), BEST_WORST, 5)
    assert sheet["length_bias"] == pytest.approx(-0.3)
    assert (sheet["chosen"]["mean_characters"], sheet["rejected"]["mean_characters"]) == (30, 30.6)


def test_ties_are_those_of_random_pairs_of_valid_programs(tmp_path: Path) -> None:
    # 2 2 1 1 1 and a failure: of ten pairs of valid programs 1 + 3 have the same score
    sheet = measured(pool(tmp_path, [2.0, 2.0, 1.0, 1.0, 1.0, None]), BEST_WORST, 5)
    assert sheet["ties"] == {"pool": 0.4, "pairs": 0}


def test_the_pools_metrics_are_of_its_valid_programs(tmp_path: Path) -> None:
    kinds = {
        "text": [0, 1, 2, 3, 4, 4],
        "tree": [0, 1, 2, 3, 3, 9],
        "shape": [0, 1, 2, 2, 2, 9],
        "behaviour": ["a", "a", "b", "b", "b", None],
        "score_signature": [1, 1, 1, 1, 1, None],
        "equals_template": [True, False, False, False, False, False],
    }
    sheet = measured(pool(tmp_path, [2.0, 2.0, 1.0, 1.0, 1.0, None], **kinds), BEST_WORST, 5)
    assert list(sheet["pool"].values()) == [5, 5, 4, 3, 2, 1, 2, 1]


def test_differences_below_noise_are_counted_by_the_paired_t(tmp_path: Path) -> None:
    # Costs of 1 against those of 4: differences 1 2 3, mean 2, standard deviation 1, t = 2 sqrt(3) = 3.46. Of 2 against
    # 3: differences 0 0 3, mean 1, standard deviation sqrt(3), t = 1: noise.
    costs = [[1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [1.0, 1.0, 4.0], [2.0, 4.0, 6.0]]
    assert measured(pool(tmp_path, [-2.0, -2.5, -3.0, -4.0], costs=costs), BEST_WORST, 5)["below_noise"] == 0.5
    assert below_noise([2.0, 1.999, None]) == 0.5  # 2 is the limit; null is not counted
    assert below_noise([None, None]) is None and below_noise([]) is None


def test_distinct_traits_are_shares_of_the_programs(tmp_path: Path) -> None:
    # chosen p0 p1 p2 p3 (p4), rejected p9 p8 p7 p6 (p5)
    traits = {
        "text": list(range(10)),
        "tree": [0, 0, 1, 1, 2, 3, 3, 3, 3, 3],
        "shape": [0] * 10,
        "behaviour": [*"aabbc", *"ddddd"],
        "family": [*"xxxyz", *"zzzzz"],
    }
    chosen, rejected = (
        measured(ten_programs(tmp_path, **traits), BEST_WORST, 5)[role] for role in ("chosen", "rejected")
    )
    names = (
        "distinct_programs",
        "distinct_trees",
        "distinct_shapes",
        "distinct_behaviours",
        "n_behaviours",
        "n_families",
    )
    assert [chosen[name] for name in names] == [1, 0.6, 0.2, 0.6, 3, 3]
    assert [rejected[name] for name in names] == [1, 0.2, 0.2, 0.2, 1, 1]


def test_a_program_chosen_again_and_again_counts_in_every_pair(tmp_path: Path) -> None:
    # top 1 against the nine others: one program in nine places
    sheet = measured(ten_programs(tmp_path), {"top_k": 1.0}, 9, top_k={"one_per": "text", "top": 1})
    assert sheet["chosen"]["by_tenth"]["0-10 %"] == 9 and sheet["chosen"]["entropy"] == 0
    assert sheet["chosen"]["distinct_programs"] == pytest.approx(1 / 9, abs=1e-6)
    assert sheet["chosen"]["distance"] == 0 and sheet["chosen"]["n_behaviours"] == 1


def test_failures_are_counted_but_have_no_tenth_and_no_gap(tmp_path: Path) -> None:
    # dar's first subset is {10, 9, 8}, its third {4, 3, 2, 1}: three pairs, one of which gets the one failure
    options = {"dar": {"one_per": "text", "n_subsets": 3, "gap": 2, "tau": 3.0}, "valid_invalid": {"share": 0.34}}
    file = pool(tmp_path, [*(float(i) for i in range(10, 0, -1)), None])
    sheet = measured(file, {"valid_invalid": 1.0}, 3, **options)
    assert (sheet["n_pairs"], sheet["rejected"]["failures"], sheet["chosen"]["failures"]) == (3, {"runtime": 1}, {})
    assert sum(sheet["rejected"]["by_tenth"].values()) == 2 and sum(sheet["chosen"]["by_tenth"].values()) == 3
    assert sheet["gap_score"]["least"] >= 4


NO_DOUBT = {"n_asked": 10, "n_pairs": 10, "n_flipped": 0, "length_bias": 0.0, "below_noise": 0.0}
LIMITS = {"length_bias": 0.15, "behaviours": 100, "below_noise": 0.1}


@pytest.mark.parametrize(
    ("at_the_limit", "beyond", "words"),
    [
        ({"n_pairs": 5}, {"n_pairs": 4}, "only 4 of 10 pairs: the pool has no more"),
        ({"n_flipped": 0}, {"n_flipped": 1}, "the labels of 1 pairs are flipped: a control"),
        (
            {"length_bias": 0.15},
            {"length_bias": 0.16},
            "length bias: the chosen program is the longer one in 66 % of the pairs (limit 65 %)",
        ),
        (
            {"length_bias": -0.15},
            {"length_bias": -0.25},
            "length bias: the chosen program is the shorter one in 75 % of the pairs (limit 65 %)",
        ),
        (
            {"chosen": {"n_behaviours": 100}},
            {"chosen": {"n_behaviours": 99}},
            "chosen programs act in 99 ways (limit 100)",
        ),
        (
            {"below_noise": 0.1},
            {"below_noise": 0.12},
            "12 % of the gaps are below noise, paired t < 2 (limit 10 %)",
        ),
        ({"below_noise": None}, {"below_noise": 1.0}, "100 % of the gaps are below noise, paired t < 2 (limit 10 %)"),
    ],
)
def test_a_warning_appears_beyond_its_limit_and_not_at_it(
    at_the_limit: dict[str, Any], beyond: dict[str, Any], words: str
) -> None:
    sheet = NO_DOUBT | {"chosen": {"n_behaviours": 100}}
    assert warnings_of(sheet, LIMITS) == warnings_of(sheet | at_the_limit, LIMITS) == []
    assert warnings_of(sheet | beyond, LIMITS) == [words]


def test_markdown_and_metrics_hold_the_numbers_and_the_warnings(tmp_path: Path) -> None:
    file = ten_programs(tmp_path, n_characters=[10, 20, 30, 40, 50, 51, 41, 31, 21, 9])
    _, metrics, sheet = published(tmp_path, file, "best_worst", 12, min_behaviours=7, max_length_bias=0.29)
    lines = sheet.read_text().splitlines()
    warnings = [
        "only 5 of 12 pairs: the pool has no more",
        "length bias: the chosen program is the shorter one in 80 % of the pairs (limit 79 %)",
        "chosen programs act in 5 ways (limit 7)",
    ]
    assert lines[:3] == ["# Pairs of t", "", "5 pairs of 12 asked for, seed 0, by"]
    assert "- `best_worst`: 5 pairs, one_per = text" in lines
    assert "## Warnings" in lines and [line[2:] for line in lines if line[2:] in warnings] == warnings
    assert "| 10 | 10 | 10 | 10 | 10 | 10 | 10 | 0 |" in lines
    assert "| distinct programs | 100.0 % | 100.0 % |" in lines
    assert "| entropy over the tenths, uniform = 1 | 0.699 | 0.699 |" in lines
    assert "| mean length, characters | 30 | 30.6 |" in lines
    assert "| 0-10 % | 1 | 0 |" in lines and "| 90-100 % | 0 | 1 |" in lines
    assert "| 1 | 1.8 | 5 | 8.2 | 9 | 50.0 % of the pool |" in lines
    assert "- The chosen program is the longer one in 20.0 % of the pairs." in lines
    held = json.loads(metrics.read_text())
    assert held == measured(file, BEST_WORST, 12) | {"warnings": warnings}


def test_the_markdown_says_that_there_are_no_warnings(tmp_path: Path) -> None:
    assert "No warnings." in published(tmp_path, ten_programs(tmp_path), "best_worst", 5)[2].read_text()


def test_the_markdown_lists_the_options_of_dar_where_a_strategy_starts(tmp_path: Path) -> None:
    file = pool(tmp_path, [float(i) for i in range(60)])
    assert "tau = 3.0" in published(tmp_path, file, "shuffled", 5)[2].read_text()


def one_pair(folder: Path) -> tuple[Path, str]:
    return pool(folder, [2.0, 1.0]), "uniform"


def one_instance(folder: Path) -> tuple[Path, str]:
    return pool(folder, [4.0, 3.0, 2.0, 1.0], costs=[[-4.0], [-3.0], [-2.0], [-1.0]]), "best_worst"


def failures_only(folder: Path) -> tuple[Path, str]:
    return pool(folder, [None] * 20 + [float(i) for i in range(60)]), "valid_invalid"


def failures_without_a_program(folder: Path) -> tuple[Path, str]:
    numbers = dict.fromkeys(("text", "tree", "shape", "n_characters"), [None] * 20 + list(range(60)))
    words = dict.fromkeys(("program", "family"), [None] * 20 + ["x"] * 60)
    return pool(folder, [None] * 20 + [float(i) for i in range(60)], **numbers, **words), "valid_invalid"


@pytest.mark.parametrize("case", [one_pair, one_instance, failures_only, failures_without_a_program])
def test_the_metrics_hold_numbers_and_nulls_whatever_the_pairs(
    tmp_path: Path, case: Callable[[Path], tuple[Path, str]]
) -> None:
    file, strategy = case(tmp_path)
    _, metrics, sheet = published(tmp_path, file, strategy, 5, valid_invalid={"share": 1})
    held = json.loads(metrics.read_text(), parse_constant=lambda constant: pytest.fail(constant))
    assert held["n_pairs"] >= 1
    assert "nan" not in sheet.read_text()


def test_one_instance_leaves_noise_unknown(tmp_path: Path) -> None:
    file, strategy = one_instance(tmp_path)
    _, metrics, sheet = published(tmp_path, file, strategy, 5, max_below_noise=0.0)
    assert json.loads(metrics.read_text())["below_noise"] is None
    assert "– (nothing to test)" in sheet.read_text()


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    chance = random.Random(0)
    costs = [[chance.random() for _ in range(8)] for _ in range(200)]
    file = pool(tmp_path, [-sum(row) / 8 for row in costs] + [None] * 20, costs=[*costs, *[None] * 20])
    mixture = {"dar_behaviour": 0.3, "random_matched": 0.2, "valid_invalid": 0.2, "shuffled": 0.1, "evotune": 0.2}
    first = [written.read_bytes() for written in published(tmp_path, file, mixture, 30)]
    assert [written.read_bytes() for written in published(tmp_path, file, mixture, 30)] == first
