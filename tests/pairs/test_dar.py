"""DAR, the authors' code and dar_behaviour by hand: pools where the pairs are forced, or where all can be listed.

Pairs are written as (score of the chosen program, score of the rejected one).
"""

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from scored_pools import OPTIONS, chi_square, drawn, draws, pool

# Three subsets and a gap of two: chosen from the first, rejected from the third, whatever tau is.
FIRST_AND_THIRD = {"n_subsets": 3, "gap": 2}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# dar


def test_dar_pairs_first_and_last_of_four_programs_in_four_subsets(
    tmp_path: Path,
) -> None:
    # one program a subset, gap 3: only (1, 4), and after it nothing is left to pair
    file = pool(tmp_path, [1.0, 4.0, 3.0, 2.0])
    pairs = drawn(file, "dar", 5, dar={"n_subsets": 4, "gap": 3})
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [("p1", "p0")]
    assert (pairs[0]["chosen_subset"], pairs[0]["rejected_subset"]) == (1, 4)
    assert (pairs[0]["chosen_rank"], pairs[0]["rejected_rank"]) == (0, 0.75)


def test_dar_draws_each_two_programs_of_two_subsets_equally_often(tmp_path: Path) -> None:
    # subsets {6, 5}, {4, 3}, {2, 1}: the first pair is one of 2 x 2; chi-square, 3 degrees of freedom, 0.1 %: 16.3
    file = pool(tmp_path, [float(i) for i in range(1, 7)])
    first = Counter(pairs[0] for pairs in draws(file, "dar", 2, range(120), dar=FIRST_AND_THIRD))
    assert set(first) == {(6, 2), (6, 1), (5, 2), (5, 1)}
    assert chi_square(first.values(), [1 / 4] * 4) < 16.3


def test_dar_draws_rejected_programs_uniformly_from_those_left_below(tmp_path: Path) -> None:
    # M = 3, gap 1, tau -> 0: chosen from subset 1; rejected uniform over the 8 programs of subsets 2 and 3
    file = pool(tmp_path, [float(i) for i in range(12)])
    rule = {"n_subsets": 3, "gap": 1, "tau": 0.01}
    rejected = Counter(pairs[0][1] for pairs in draws(file, "dar", 1, range(160), dar=rule))
    assert set(rejected) == set(range(8))
    assert chi_square(rejected.values(), [1 / 8] * 8) < 24.3  # 7 degrees of freedom, 0.1 %


@pytest.mark.parametrize("tau", [0.1, 0.001])
def test_dar_chooses_from_the_best_subset_alone_for_a_small_tau(tmp_path: Path, tau: float) -> None:
    pairs = drawn(pool(tmp_path, [float(i) for i in range(100)]), "dar", 10, dar={"tau": tau})
    assert [pair["chosen_subset"] for pair in pairs] == [1] * 10


def test_dar_chooses_from_each_subset_equally_often_for_a_large_tau(tmp_path: Path) -> None:
    pairs = drawn(pool(tmp_path, [float(i) for i in range(20_000)]), "dar", 800, dar={"tau": 1e9})
    subsets = Counter(pair["chosen_subset"] for pair in pairs)
    assert chi_square([subsets[i] for i in range(1, 9)], [1 / 8] * 8) < 24.3  # 7 degrees of freedom, 0.1 %


def test_dar_puts_equal_scores_into_one_subset(tmp_path: Path) -> None:
    # 60 of 100 programs share the best score: they are all of subset 1, and subsets 2 to 6 are empty
    file = pool(tmp_path, [50.0] * 60 + [float(i) for i in range(40)])
    pairs = drawn(file, "dar", 30)
    subsets = {(pair["chosen_score"] == 50.0, pair["chosen_subset"] == 1) for pair in pairs}
    assert (True, True) in subsets and subsets <= {(True, True), (False, False)}
    assert {pair["rejected_subset"] for pair in pairs} <= {7, 8, 9, 10}


# dar_behaviour: as dar in all else, so the same examples hold with its own options switched off


def behaviour(folder: Path, scores: list[float | None], n_pairs: int, **options: Any) -> list[list[tuple[Any, Any]]]:
    """Over 20 seeds. options: also columns of the pool."""
    given = {key: options.pop(key) for key in list(options) if key in OPTIONS["dar_behaviour"]}
    rule = {**FIRST_AND_THIRD, "cap": 100, "spread": 1} | given
    return draws(pool(folder, scores, **options), "dar_behaviour", n_pairs, range(20), dar_behaviour=rule)


def test_dar_behaviour_draws_the_only_pair_that_dar_can_draw(tmp_path: Path) -> None:
    assert behaviour(tmp_path, [1.0, 4.0, 3.0, 2.0], 5, n_subsets=4, gap=3) == [[(4, 1)]] * 20


def test_dar_behaviour_uses_one_program_of_each_behaviour(tmp_path: Path) -> None:
    # six behaviours, each of two programs: subsets {6, 5}, {4, 3}, {2, 1} by behaviour, so two pairs; of twelve, four
    scores: list[float | None] = [6.0, 6.0, 5.0, 5.0, 4.0, 4.0, 3.0, 3.0, 2.0, 2.0, 1.0, 1.0]
    for pairs in behaviour(tmp_path, scores, 10, behaviour=[f"behaviour {i // 2}" for i in range(12)]):
        assert sorted(score for pair in pairs for score in pair) == [1, 2, 5, 6]
    assert {len(pairs) for pairs in behaviour(tmp_path, scores, 10)} == {4}


def test_dar_behaviour_caps_programs_that_share_16_bits_of_signature(tmp_path: Path) -> None:
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


def test_dar_behaviour_spreads_its_programs_within_a_subset(tmp_path: Path) -> None:
    # The worst subset has two programs, so two pairs, and two of the best subset's four are used. Whichever comes
    # first, the farthest from it is one of the other twins.
    for pairs in behaviour(tmp_path, TWINS, 2, spread=2, signature=OF_TWINS):
        chosen = {score for score, _ in pairs}
        assert len(chosen & {12, 11}) == len(chosen & {10, 9}) == 1


def test_dar_behaviour_does_not_spread_at_spread_1(tmp_path: Path) -> None:
    # two of four at random are twins in 2 of 6 cases: P(never in 20 draws) = (2/3)^20 = 0.0003
    chosen = [{score for score, _ in pairs} for pairs in behaviour(tmp_path, TWINS, 2, signature=OF_TWINS)]
    assert {12, 11} in chosen or {10, 9} in chosen


def test_dar_behaviour_does_not_spread_at_spread_1_in_a_larger_pool(tmp_path: Path) -> None:
    # Subsets of four, two pairs asked for, four to be had. Of the best subset's four, three are alike and 9 is far from
    # them: two at random have it in half of the cases, P(in all of 20 draws) = 1e-6.
    signatures = [[0, 0], [1, 0], [2, 0], [2**64 - 1, 2**64 - 1], *([i, 7] for i in range(4, 12))]
    scores: list[float | None] = [float(i) for i in range(12, 0, -1)]
    with_far_one = [9 in dict(pairs) for pairs in behaviour(tmp_path, scores, 2, spread=1, signature=signatures)]
    assert not all(with_far_one)


def test_dar_behaviour_takes_the_program_farthest_from_those_taken(tmp_path: Path) -> None:
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


def test_dar_behaviour_keeps_no_pair_with_a_small_gap(tmp_path: Path) -> None:
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


def test_dar_behaviour_skips_the_noise_test_for_one_instance(tmp_path: Path) -> None:
    costs = [[2.0], [3.0], [4.0]]
    assert behaviour(tmp_path, [-2.0, -3.0, -4.0], 1, min_t=100, costs=costs) == [[(-2, -4)]] * 20
    file = pool(tmp_path, [-2.0, -3.0, -4.0], costs=costs)
    assert drawn(file, "dar", 1, dar=FIRST_AND_THIRD)[0]["t"] is None


def test_dar_behaviour_finds_a_pair_where_the_cap_removes_most_programs(tmp_path: Path) -> None:
    # Of 60 programs 48 act nearly alike, and one of them takes part; in each subset are four more.
    signatures = [[i << 12 if i % 5 else i, 0] for i in range(60)]
    scores: list[float | None] = [float(i) for i in range(60)]
    assert all(behaviour(tmp_path, scores, 1, cap=1, signature=signatures))


# dar_authors_code


def test_the_authors_code_pairs_the_best_of_four_with_the_worst_two(tmp_path: Path) -> None:
    # four slices of one program: chosen out of M - 3 = 1 slices, rejected out of the third and fourth; with replacement
    file = pool(tmp_path, [1.0, 4.0, 3.0, 2.0])
    (pairs,) = draws(file, "dar_authors_code", 200, [0], dar_authors_code={"n_subsets": 4})
    counts = Counter(pairs)
    assert set(counts) == {(4, 2), (4, 1)}
    assert chi_square(counts.values(), [1 / 2] * 2) < 10.8  # 1 degree of freedom, 0.1 %


def test_the_authors_code_splits_ties_and_redraws_pairs_of_equal_scores(tmp_path: Path) -> None:
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
