"""Metrics of a sample of programs, and confidence intervals of the difference between two samples.

A program's quality is its score as a fraction of the reference: 1 is as good as the reference, 0 is a failure. So
every sampled program counts, and no failure needs an invented score.
"""

import statistics
from collections.abc import Callable
from functools import cache
from math import comb
from typing import Any

import numpy as np

MODELS = ("base", "tuned")  # what is compared: the keys of metrics, the values of the column `model`
TEMPLATE = "template"  # in the metadata of the table of evaluated programs: the task's template program
N_RESAMPLES = 2000
BEST_OF = (10, 100)


def best_of(k: int, qualities: np.ndarray) -> np.ndarray:
    """Return the expected best of k of the n programs, drawn without replacement: unbiased for k fresh programs.

    qualities: (..., n) with k <= n; returns (...). The i-th smallest of n is the best of C(i-1, k-1) of the C(n, k)
    subsets (Chen et al. 2021, eq. 1, for values instead of passes).
    """
    mean: np.ndarray = np.sort(qualities, axis=-1) @ best_weights(k, qualities.shape[-1])
    return mean


@cache
def best_weights(k: int, n: int) -> np.ndarray:
    """Return the probability (n,) that the i-th smallest of n is the best of k of them."""
    return np.array([comb(i - 1, k - 1) / comb(n, k) for i in range(1, n + 1)])


def top(k: int, qualities: np.ndarray) -> np.ndarray:
    """Return the mean of the k best of n, or of all where n < k. qualities: (..., n); returns (...)."""
    mean: np.ndarray = np.sort(qualities, axis=-1)[..., -k:].mean(axis=-1)
    return mean


def metrics(n: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return the metrics of n qualities, by name. Each takes (..., n) and returns (...)."""
    best = {f"best_of_{k}": (lambda q, k=k: best_of(k, q)) for k in BEST_OF if k <= n}
    return {
        "validity": lambda q: (q > 0).mean(axis=-1),
        "mean": lambda q: q.mean(axis=-1),
        "median": lambda q: np.median(q, axis=-1),
        "top_10": lambda q: top(10, q),
        **best,
    }


def difference(base: np.ndarray, tuned: np.ndarray, seed: int) -> dict[str, dict[str, float]]:
    """Return tuned minus base for each metric, with the 95 % bootstrap interval: {"estimate", "low", "high"}.

    base, tuned: qualities (n,), independent samples, resampled independently.
    """
    generator = np.random.default_rng(seed)
    resampled = [q[generator.integers(0, len(q), (N_RESAMPLES, len(q)))] for q in (base, tuned)]
    intervals = {}
    for name, metric in metrics(min(len(base), len(tuned))).items():
        low, high = np.quantile(metric(resampled[1]) - metric(resampled[0]), (0.025, 0.975))
        values = {"estimate": metric(tuned) - metric(base), "low": low, "high": high}
        intervals[name] = {key: round(float(value), 6) for key, value in values.items()}
    return intervals


def t_interval(differences: list[float]) -> dict[str, float | None]:
    """Return the mean of differences, one per seed, with its 95 % t interval: {"estimate", "low", "high"}.

    low and high are None for a single seed.
    """
    mean, n = statistics.mean(differences), len(differences)
    low = high = None
    if n > 1:
        from scipy.stats import t

        half = float(t.ppf(0.975, n - 1)) * statistics.stdev(differences) / n**0.5
        low, high = round(mean - half, 6), round(mean + half, 6)
    return {"estimate": round(mean, 6), "low": low, "high": high}


def significance(interval: dict[str, Any]) -> str:
    """Return "better" or "worse" where the interval excludes 0, else "unclear". Higher must be better."""
    if interval["low"] is None:
        return "unclear"
    return "better" if interval["low"] > 0 else "worse" if interval["high"] < 0 else "unclear"


def interval_text(interval: dict[str, Any]) -> str:
    """Return an interval for a table: "+0.012 [-0.008, +0.032]"."""
    bounds = "one seed" if interval["low"] is None else f"{interval['low']:+z.3f}, {interval['high']:+z.3f}"
    return f"{interval['estimate']:+z.3f} [{bounds}]"
