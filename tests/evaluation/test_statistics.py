"""Numbers that can be checked by hand."""

from itertools import combinations

import numpy as np
import pytest

from dartune.evaluation.statistics import best_of, difference, interval_text, metrics, significance, t_interval, top


def test_best_of_two_out_of_three_is_the_mean_over_all_pairs() -> None:
    # pairs of (1, 2, 4): best 2, 4, 4, so 10 / 3
    assert best_of(2, np.array([4.0, 1.0, 2.0])) == pytest.approx(10 / 3)


def test_best_of_k_is_the_mean_over_all_subsets_of_size_k() -> None:
    values = np.random.default_rng(0).random(9)
    for k in range(1, 10):
        by_hand = np.mean([max(subset) for subset in combinations(values, k)])
        assert best_of(k, values) == pytest.approx(by_hand)


def test_best_of_one_is_the_mean_and_best_of_n_the_maximum() -> None:
    values = np.array([0.0, 0.2, 0.9, 0.4])
    assert best_of(1, values) == pytest.approx(values.mean())
    assert best_of(4, values) == pytest.approx(0.9)


def test_top_two_is_the_mean_of_the_two_best() -> None:
    assert top(2, np.array([0.1, 0.9, 0.5])) == pytest.approx(0.7)


def test_failures_count_in_every_figure() -> None:
    # two of four valid: validity 1/2, mean (0.8 + 0.6) / 4, median (0 + 0.6) / 2
    values = {name: float(metric(np.array([0.8, 0.0, 0.6, 0.0]))) for name, metric in metrics(4).items()}
    assert values["validity"] == 0.5
    assert values["mean"] == pytest.approx(0.35)
    assert values["median"] == pytest.approx(0.3)
    assert "best_of_10" not in values  # not to be had from four samples


def test_the_bootstrap_interval_covers_zero_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for seed in range(100):
        one, two = generator.random((2, 60))
        interval = difference(one, two, seed)["mean"]
        covered += interval["low"] <= 0 <= interval["high"]
    assert 88 <= covered <= 100  # 95 % nominal; P(fewer than 88 of 100) is below 0.002


def test_a_shift_that_is_there_is_found_and_estimated_without_bias() -> None:
    generator = np.random.default_rng(2)
    interval = difference(generator.random(400), generator.random(400) + 0.3, 0)["mean"]
    assert 0 < interval["low"] < 0.3 < interval["high"]


def test_the_same_seed_gives_the_same_interval() -> None:
    one, two = np.random.default_rng(3).random((2, 50))
    assert difference(one, two, 4) == difference(one, two, 4)


def test_the_interval_of_three_seeds_uses_two_degrees_of_freedom() -> None:
    # mean 2, deviation 1, half 4.302653 / sqrt(3) = 2.484138
    assert t_interval([1.0, 2.0, 3.0]) == {"estimate": 2.0, "low": -0.484138, "high": 4.484138}


def test_the_interval_of_two_seeds_uses_one_degree_of_freedom() -> None:
    # deviation sqrt(.5), half 12.706205 * sqrt(.5 / 2) = 6.353102
    assert t_interval([0.0, 1.0]) == {"estimate": 0.5, "low": -5.853102, "high": 6.853102}


def test_one_seed_has_no_interval_and_equal_seeds_one_of_no_width() -> None:
    assert t_interval([0.3]) == {"estimate": 0.3, "low": None, "high": None}
    assert t_interval([0.25] * 4) == {"estimate": 0.25, "low": 0.25, "high": 0.25}


@pytest.mark.parametrize(("n", "t"), [(10, 2.262157), (26, 2.059539)])
def test_the_interval_of_many_seeds_uses_their_degrees_of_freedom(n: int, t: float) -> None:
    # -1 and 1 in turn: mean 0, deviation sqrt(n / (n - 1)), half t / sqrt(n - 1)
    assert t_interval([-1.0, 1.0] * (n // 2))["high"] == pytest.approx(t / (n - 1) ** 0.5, abs=1e-6)


def test_the_t_interval_covers_zero_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        interval = t_interval(list(generator.normal(size=3)))
        covered += interval["low"] < 0 < interval["high"]
    assert 920 <= covered <= 976  # 950 expected, deviation 6.9


@pytest.mark.parametrize(
    ("low", "high", "kind", "text"),
    [
        (0.01, 0.03, "better", "+0.020 [+0.010, +0.030]"),
        (-0.03, -0.01, "worse", "+0.020 [-0.030, -0.010]"),
        (-0.0001, 0.03, "unclear", "+0.020 [+0.000, +0.030]"),
        (0.0, 0.0, "unclear", "+0.020 [+0.000, +0.000]"),
        (None, None, "unclear", "+0.020 [one seed]"),
    ],
)
def test_an_interval_is_significant_where_it_excludes_zero(low: float, high: float, kind: str, text: str) -> None:
    interval = {"estimate": 0.02, "low": low, "high": high}
    assert (significance(interval), interval_text(interval)) == (kind, text)
