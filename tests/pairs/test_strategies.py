"""Each strategy by hand: tiny pools where the pairs are forced, or where all that can come out can be listed.

Pairs are written as (score of the chosen program, score of the rejected one).
"""

import math
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dartune.pairs.sample import connect, run
from dartune.pairs.strategies import header, statement, strategies
from scored_pools import OPTIONS, chi_square, drawn, draws, pool

# Three subsets and a gap of two: chosen from the first, rejected from the third. tau has no say.
FIRST_AND_THIRD = {"n_subsets": 3, "gap": 2}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# dar


def test_dar_with_four_programs_and_four_subsets_has_one_way_for_the_first_pair_and_none_for_a_second(
    tmp_path: Path,
) -> None:
    # one program a subset, gap 3: only (1, 4), and after it nothing is left to pair
    file = pool(tmp_path, [1.0, 4.0, 3.0, 2.0])
    pairs = drawn(file, "dar", 5, dar={"n_subsets": 4, "gap": 3})
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [("p1", "p0")]
    assert (pairs[0]["chosen_subset"], pairs[0]["rejected_subset"]) == (1, 4)
    assert (pairs[0]["chosen_rank"], pairs[0]["rejected_rank"]) == (0, 0.75)


def test_dar_takes_any_two_programs_of_the_two_subsets_equally_often(tmp_path: Path) -> None:
    # subsets {6, 5}, {4, 3}, {2, 1}: the first pair is one of 2 x 2; chi-square, 3 degrees of freedom, 0.1 %: 16.3
    file = pool(tmp_path, [float(i) for i in range(1, 7)])
    first = Counter(pairs[0] for pairs in draws(file, "dar", 2, range(120), dar=FIRST_AND_THIRD))
    assert set(first) == {(6, 2), (6, 1), (5, 2), (5, 1)}
    assert chi_square(first.values(), [1 / 4] * 4) < 16.3


def test_dar_draws_the_rejected_program_uniformly_over_what_is_left_below(tmp_path: Path) -> None:
    # M = 3, gap 1, tau -> 0: chosen from subset 1; rejected uniform over the 8 programs of subsets 2 and 3
    file = pool(tmp_path, [float(i) for i in range(12)])
    rule = {"n_subsets": 3, "gap": 1, "tau": 0.01}
    rejected = Counter(pairs[0][1] for pairs in draws(file, "dar", 1, range(160), dar=rule))
    assert set(rejected) == set(range(8))
    assert chi_square(rejected.values(), [1 / 8] * 8) < 24.3  # 7 degrees of freedom, 0.1 %


@pytest.mark.parametrize("tau", [0.1, 0.001])
def test_dar_takes_the_best_subset_only_as_tau_goes_to_0(tmp_path: Path, tau: float) -> None:
    pairs = drawn(pool(tmp_path, [float(i) for i in range(100)]), "dar", 10, dar={"tau": tau})
    assert [pair["chosen_subset"] for pair in pairs] == [1] * 10


def test_dar_takes_the_first_m_minus_2_subsets_equally_often_as_tau_goes_to_infinity(tmp_path: Path) -> None:
    pairs = drawn(pool(tmp_path, [float(i) for i in range(20_000)]), "dar", 800, dar={"tau": 1e9})
    subsets = Counter(pair["chosen_subset"] for pair in pairs)
    assert chi_square([subsets[i] for i in range(1, 9)], [1 / 8] * 8) < 24.3  # 7 degrees of freedom, 0.1 %


def test_dar_never_lets_a_border_split_a_score(tmp_path: Path) -> None:
    # 60 of 100 programs share the best score: they are all of subset 1, and subsets 2 to 6 are empty
    file = pool(tmp_path, [50.0] * 60 + [float(i) for i in range(40)])
    pairs = drawn(file, "dar", 30)
    subsets = {(pair["chosen_score"] == 50.0, pair["chosen_subset"] == 1) for pair in pairs}
    assert (True, True) in subsets and subsets <= {(True, True), (False, False)}
    assert {pair["rejected_subset"] for pair in pairs} <= {7, 8, 9, 10}


# dar_behaviour: as dar in all else, so the same examples hold with its own options switched off


def behaviour(folder: Path, scores: list[float | None], n_pairs: int, **options: Any) -> list[list[tuple[Any, Any]]]:
    """Over 20 seeds. options: also columns of the pool."""
    own = {key: options.pop(key) for key in list(options) if key in OPTIONS["dar_behaviour"]}
    rule = {**FIRST_AND_THIRD, "cap": 100, "spread": 1} | own
    return draws(pool(folder, scores, **options), "dar_behaviour", n_pairs, range(20), dar_behaviour=rule)


def test_dar_behaviour_has_the_same_one_way_where_dar_has_one(tmp_path: Path) -> None:
    assert behaviour(tmp_path, [1.0, 4.0, 3.0, 2.0], 5, n_subsets=4, gap=3) == [[(4, 1)]] * 20


def test_dar_behaviour_lets_equal_behaviour_take_part_once(tmp_path: Path) -> None:
    # six behaviours, each of two programs: subsets {6, 5}, {4, 3}, {2, 1} by behaviour, so two pairs; of twelve, four
    scores: list[float | None] = [6.0, 6.0, 5.0, 5.0, 4.0, 4.0, 3.0, 3.0, 2.0, 2.0, 1.0, 1.0]
    for pairs in behaviour(tmp_path, scores, 10, behaviour=[f"behaviour {i // 2}" for i in range(12)]):
        assert sorted(score for pair in pairs for score in pair) == [1, 2, 5, 6]
    assert {len(pairs) for pairs in behaviour(tmp_path, scores, 10)} == {4}


def test_dar_behaviour_caps_programs_whose_signatures_agree_in_their_first_16_bits(tmp_path: Path) -> None:
    # The first 16 bits of 9, 8 and 7 are 0, 0 and 32768; 9 and 8 differ in the 17th. The others have their own. Cap 1:
    # one of 9 and 8 takes part, whichever chance has first; cap 2: both, so all three of the best subset are chosen.
    signatures = [[0, 0], [65536, 0], [32768, 0], *([i, 2**64 - 1] for i in range(1, 7))]
    scores: list[float | None] = [float(i) for i in range(9, 0, -1)]
    capped = [{chosen for chosen, _ in pairs} for pairs in behaviour(tmp_path, scores, 9, cap=1, signature=signatures)]
    assert not any({9, 8} <= chosen for chosen in capped)
    assert any(9 in chosen for chosen in capped) and any(8 in chosen for chosen in capped)
    for pairs in behaviour(tmp_path, scores, 9, cap=2, signature=signatures):
        assert {chosen for chosen, _ in pairs} == {9, 8, 7}


# Four programs in the best subset, two and two alike (1 of 128 bits), six of one score between, two in the worst one.
TWINS: list[float | None] = [12.0, 11.0, 10.0, 9.0, *[5.0] * 6, 2.0, 1.0]
OF_TWINS = [[0, 0], [1, 0], [2**64 - 1, 2**64 - 1], [2**64 - 2, 2**64 - 1], *([2**i, 7] for i in range(1, 9))]


def test_dar_behaviour_spreads_what_it_takes_of_a_subset(tmp_path: Path) -> None:
    # The worst subset has two programs, so two pairs, and two of the best subset's four are used. Whichever comes
    # first, the farthest from it is one of the other twins.
    for pairs in behaviour(tmp_path, TWINS, 2, spread=2, signature=OF_TWINS):
        chosen = {score for score, _ in pairs}
        assert len(chosen & {12, 11}) == len(chosen & {10, 9}) == 1


def test_dar_behaviour_does_not_spread_when_spread_is_1(tmp_path: Path) -> None:
    # two of four at random are twins in 2 of 6 cases: P(never in 20 draws) = (2/3)^20 = 0.0003
    chosen = [{score for score, _ in pairs} for pairs in behaviour(tmp_path, TWINS, 2, signature=OF_TWINS)]
    assert {12, 11} in chosen or {10, 9} in chosen


def test_dar_behaviour_does_not_spread_when_spread_is_1_where_more_pairs_could_be_had(tmp_path: Path) -> None:
    # Subsets of four, two pairs asked for, four to be had. Of the best subset's four, three are alike and 9 is far from
    # them: two at random have it in half of the cases, P(in all of 20 draws) = 1e-6.
    signatures = [[0, 0], [1, 0], [2, 0], [2**64 - 1, 2**64 - 1], *([i, 7] for i in range(4, 12))]
    scores: list[float | None] = [float(i) for i in range(12, 0, -1)]
    with_far_one = [9 in dict(pairs) for pairs in behaviour(tmp_path, scores, 2, spread=1, signature=signatures)]
    assert not all(with_far_one)


def test_dar_behaviour_takes_each_program_as_far_as_can_be_from_those_before_it(tmp_path: Path) -> None:
    # Best subset of six with signatures at random, worst of three: three pairs, out of 2 x 3 programs. The three used
    # are those of Gonzalez's walk from one of them.
    chance = random.Random(1)
    words = [chance.getrandbits(128) for _ in range(18)]
    signatures = [[word % 2**64, word // 2**64] for word in words]

    def walk(first: int) -> frozenset[int]:
        taken = [first]
        while len(taken) < 3:
            rest = [i for i in range(6) if i not in taken]
            taken.append(max(rest, key=lambda i: min((words[i] ^ words[j]).bit_count() for j in taken)))
        return frozenset(taken)

    walks = {walk(first) for first in range(6)}
    assert len(walks) < 20  # of the 20 sets of three
    scores: list[float | None] = [18.0, 17.0, 16.0, 15.0, 14.0, 13.0, *[5.0] * 9, 3.0, 2.0, 1.0]
    for pairs in behaviour(tmp_path, scores, 3, spread=2, signature=signatures):
        assert frozenset(18 - int(chosen) for chosen, _ in pairs) in walks


def test_dar_behaviour_keeps_no_pair_whose_scores_are_too_near(tmp_path: Path) -> None:
    # Subsets {10, 9}, {5, 5}, {1, 0}. Quartiles of 0 1 5 5 9 10 at places 1.25 and 3.75: 2 and 8, so a range of 6.
    # Gaps: 10 - 0 = 10, 10 - 1 = 9 - 0 = 9, 9 - 1 = 8. Least 1.6 ranges, 9.6: only (10, 0); 1.4, 8.4: not (9, 1).
    scores: list[float | None] = [10.0, 9.0, 5.0, 5.0, 1.0, 0.0]
    assert {pair for pairs in behaviour(tmp_path, scores, 2, min_gap=1.6) for pair in pairs} == {(10, 0)}
    assert {pair for pairs in behaviour(tmp_path, scores, 2, min_gap=1.4) for pair in pairs} == {
        (10, 0),
        (10, 1),
        (9, 0),
    }


@pytest.mark.parametrize(("min_t", "n_pairs"), [(3.46, 1), (3.47, 0)])
def test_dar_behaviour_keeps_no_pair_whose_difference_is_noise(tmp_path: Path, min_t: float, n_pairs: int) -> None:
    # Three programs, one a subset: (-2, -4) is the one pair. Costs 1 2 3 and 2 4 6: differences 1, 2, 3, mean 2,
    # standard deviation 1, t = 2 / (1 / sqrt(3)) = 3.464.
    costs = [[1.0, 2.0, 3.0], [3.0, 3.0, 3.0], [2.0, 4.0, 6.0]]
    found = behaviour(tmp_path, [-2.0, -3.0, -4.0], 1, min_t=min_t, costs=costs)
    assert found == [[(-2, -4)] * n_pairs] * 20
    file = pool(tmp_path, [-2.0, -3.0, -4.0], costs=costs)
    assert drawn(file, "dar", 1, dar=FIRST_AND_THIRD)[0]["t"] == pytest.approx(2 * math.sqrt(3))


def test_dar_behaviour_tests_nothing_where_there_is_one_instance(tmp_path: Path) -> None:
    costs = [[2.0], [3.0], [4.0]]
    assert behaviour(tmp_path, [-2.0, -3.0, -4.0], 1, min_t=100, costs=costs) == [[(-2, -4)]] * 20
    file = pool(tmp_path, [-2.0, -3.0, -4.0], costs=costs)
    assert drawn(file, "dar", 1, dar=FIRST_AND_THIRD)[0]["t"] is None


def test_dar_behaviour_finds_a_pair_beside_a_crowd_that_the_cap_thins_out(tmp_path: Path) -> None:
    # Of 60 programs 48 act nearly alike, and one of them takes part; in each subset are four more.
    signatures = [[i << 12 if i % 5 else i, 0] for i in range(60)]
    scores: list[float | None] = [float(i) for i in range(60)]
    assert all(behaviour(tmp_path, scores, 1, cap=1, signature=signatures))


# dar_authors_code


def test_the_authors_code_with_four_programs_pairs_the_best_with_the_worst_two_again_and_again(tmp_path: Path) -> None:
    # four slices of one program: chosen out of M - 3 = 1 slices, rejected out of the third and fourth; with replacement
    file = pool(tmp_path, [1.0, 4.0, 3.0, 2.0])
    (pairs,) = draws(file, "dar_authors_code", 200, [0], dar_authors_code={"n_subsets": 4})
    counts = Counter(pairs)
    assert set(counts) == {(4, 2), (4, 1)}
    assert chi_square(counts.values(), [1 / 2] * 2) < 10.8  # 1 degree of freedom, 0.1 %


def test_the_authors_code_splits_ties_and_draws_again_where_the_score_decides_nothing(tmp_path: Path) -> None:
    # 60 of 100 share the best score: slices 1 to 6 hold them, the seventh is the last that gives chosen programs
    file = pool(tmp_path, [50.0] * 60 + [float(i) for i in range(40)])
    pairs = drawn(file, "dar_authors_code", 200)
    assert len(pairs) == 200 and all(pair["chosen_score"] > pair["rejected_score"] for pair in pairs)
    assert {pair["chosen_subset"] for pair in pairs if pair["chosen_score"] == 50} == set(range(1, 7))


@pytest.mark.parametrize("n_programs", [100, 25])
def test_the_authors_code_skips_the_neighbouring_slice(tmp_path: Path, n_programs: int) -> None:
    # 25 programs in ten slices of two or three: a slice that a program is of when chosen, it is of when rejected
    file = pool(tmp_path, [float(i) for i in range(n_programs)])
    pairs = drawn(file, "dar_authors_code", 400)
    assert min(pair["rejected_subset"] - pair["chosen_subset"] for pair in pairs) == 2
    roles = [{(pair[role], pair[f"{role}_subset"]) for pair in pairs} for role in ("chosen", "rejected")]
    assert len(roles[0] | roles[1]) == len({program for role in roles for program, _ in role})


# top_k


def test_top_1_is_chosen_always_and_each_of_the_rest_is_rejected_once(tmp_path: Path) -> None:
    file = pool(tmp_path, [3.0, 5.0, 1.0, 4.0, 2.0])
    for pairs in draws(file, "top_k", 10, range(5), top_k={"top": 1}):
        assert sorted(pairs) == [(5, 1), (5, 2), (5, 3), (5, 4)]
    assert len(draws(file, "top_k", 3, [0], top_k={"top": 1})[0]) == 3


def test_a_share_of_the_programs_is_the_top_and_they_take_turns(tmp_path: Path) -> None:
    # 0.4 of five: 5 and 4, in turns for the three that are left: a b a
    for pairs in draws(pool(tmp_path, [3.0, 5.0, 1.0, 4.0, 2.0]), "top_k", 10, range(5), top_k={"top": 0.4}):
        (first, second, third), rejected = zip(*pairs, strict=True)
        assert first == third and {first, second} == {5, 4}
        assert set(rejected) == {3, 2, 1}


def test_what_ties_with_the_top_is_neither_chosen_nor_rejected(tmp_path: Path) -> None:
    assert draws(pool(tmp_path, [5.0, 5.0, 4.0]), "top_k", 10, [0], top_k={"top": 1}) == [[(5, 4)]]


def test_a_share_of_less_than_one_program_is_one_program(tmp_path: Path) -> None:
    assert draws(pool(tmp_path, [5.0, 6.0]), "top_k", 10, [0], top_k={"top": 0.01}) == [[(6, 5)]]


# uniform


def test_uniform_draws_each_way_to_pair_four_programs_equally_often(tmp_path: Path) -> None:
    # {43, 21}, {42, 31}, {41, 32}; chi-square, 2 degrees of freedom, 0.1 %: 13.8
    ways = Counter(frozenset(pairs) for pairs in draws(pool(tmp_path, [1.0, 2.0, 3.0, 4.0]), "uniform", 5, range(150)))
    assert set(ways) == {frozenset({(4, 3), (2, 1)}), frozenset({(4, 2), (3, 1)}), frozenset({(4, 1), (3, 2)})}
    assert chi_square(ways.values(), [1 / 3] * 3) < 13.8


def test_uniform_makes_no_pair_of_two_programs_of_one_score(tmp_path: Path) -> None:
    # 2 2 1 1: both twos with ones in 2 of 3 ways, or two twos and two ones, which are no pairs
    found = draws(pool(tmp_path, [2.0, 2.0, 1.0, 1.0]), "uniform", 5, range(20))
    assert {tuple(pairs) for pairs in found} == {((2, 1), (2, 1)), ()}


# best_worst


def test_best_worst_pairs_from_both_ends_and_leaves_the_middle(tmp_path: Path) -> None:
    file = pool(tmp_path, [3.0, 5.0, 1.0, 4.0, 2.0])
    assert draws(file, "best_worst", 10, range(3)) == [[(5, 1), (4, 2)]] * 3
    assert draws(file, "best_worst", 1, [0]) == [[(5, 1)]]


def test_best_worst_stops_where_the_ends_meet_in_one_score(tmp_path: Path) -> None:
    assert draws(pool(tmp_path, [5.0, 3.0, 3.0, 3.0, 1.0]), "best_worst", 10, range(3)) == [[(5, 1)]] * 3


# evotune


def test_evotune_pairs_the_better_half_of_the_different_scores_with_the_worse_half(tmp_path: Path) -> None:
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


def test_random_matched_pairs_dars_programs_anew(tmp_path: Path) -> None:
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


def test_valid_invalid_puts_a_failure_in_the_place_of_dars_rejected_program_in_a_share_of_the_pairs(
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


def test_valid_invalid_takes_dars_rejected_programs_where_failures_run_out(tmp_path: Path) -> None:
    file = pool(tmp_path, [None, None, *(float(i) for i in range(200))])
    pairs = drawn(file, "valid_invalid", 20, valid_invalid={"share": 1})
    assert len(pairs) == 20
    assert sorted(row["rejected"] for row in pairs if row["rejected_score"] is None) == ["p0", "p1"]


def test_failures_of_one_text_and_those_of_one_reason_without_a_program_count_once(tmp_path: Path) -> None:
    # failures: two of one text, two without a program and of one reason, one of another reason: three
    scores: list[float | None] = [None] * 5 + [float(i) for i in range(200)]
    texts = [7, 7, None, None, None, *range(100, 300)]
    reasons = ["x", "y", "no code", "no code", "cut off", *[""] * 200]
    pairs = drawn(pool(tmp_path, scores, text=texts, reason=reasons), "valid_invalid", 20, valid_invalid={"share": 1})
    assert sorted(row["rejected"] for row in pairs if row["rejected_score"] is None) == ["p0", "p2", "p4"]


# What the files say of themselves


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
