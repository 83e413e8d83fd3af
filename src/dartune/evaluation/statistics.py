"""Figures of a sample of programs, and intervals of the difference between two samples. Numbers in, numbers out.

A program's quality is its score as a fraction of the reference: 1 is as good as the reference, 0 is a failure. So
every sampled program counts, and no failure needs an invented score.
"""

import statistics
from collections.abc import Callable
from math import comb

import numpy as np

N_RESAMPLES = 2000
BEST_OF = (1, 10, 100)
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # Student's, by degrees of freedom from 1


def best_of(k: int, qualities: np.ndarray) -> np.ndarray:
    """Expected best of k of the n programs drawn without replacement: unbiased for k fresh programs.

    qualities: (..., n) with k <= n; returns (...). The i-th smallest of n is the best of C(i-1, k-1) of the C(n, k)
    subsets (Chen et al. 2021, eq. 1, for values instead of passes).
    """
    n = qualities.shape[-1]
    weights = np.array([comb(i - 1, k - 1) / comb(n, k) for i in range(1, n + 1)])
    mean: np.ndarray = np.sort(qualities, axis=-1) @ weights
    return mean


def top(k: int, qualities: np.ndarray) -> np.ndarray:
    """Mean of the k best; (..., n) to (...)."""
    mean: np.ndarray = np.sort(qualities, axis=-1)[..., -k:].mean(axis=-1)
    return mean


def figures(n: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The figures of n qualities, by name. Each takes (..., n) and returns (...)."""
    best = {f"best_of_{k}": (lambda q, k=k: best_of(k, q)) for k in BEST_OF[1:] if k <= n}
    return {
        "validity": lambda q: (q > 0).mean(axis=-1),
        "mean": lambda q: q.mean(axis=-1),
        "median": lambda q: np.median(q, axis=-1),
        "top_10": lambda q: top(10, q),
        **best,
    }


def difference(base: np.ndarray, tuned: np.ndarray, seed: int) -> dict[str, dict[str, float]]:
    """tuned minus base for each figure, with the 95 % bootstrap interval: {"estimate", "low", "high"}.

    base, tuned: qualities (n,), independent samples; each is resampled by itself.
    """
    generator = np.random.default_rng(seed)
    resampled = [q[generator.integers(0, len(q), (N_RESAMPLES, len(q)))] for q in (base, tuned)]
    result = {}
    for name, figure in figures(min(len(base), len(tuned))).items():
        spread = figure(resampled[1]) - figure(resampled[0])
        low, high = np.quantile(spread, (0.025, 0.975))
        estimate = float(figure(tuned) - figure(base))
        result[name] = {
            "estimate": round(estimate, 6),
            "low": round(float(low), 6),
            "high": round(float(high), 6),
        }
    return result


def t_interval(differences: list[float]) -> dict[str, float | None]:
    """Mean of one difference a seed with its 95 % t interval: {"estimate", "low", "high"}; no bounds for one seed.

    From ten seeds on the value of nine degrees of freedom is used: a little too wide.
    """
    mean = statistics.mean(differences)
    low = high = None
    if len(differences) > 1:
        t = T_975[min(len(differences) - 2, len(T_975) - 1)]
        half = t * statistics.stdev(differences) / len(differences) ** 0.5
        low, high = round(mean - half, 6), round(mean + half, 6)
    return {"estimate": round(mean, 6), "low": low, "high": high}


def t_text(differences: list[float]) -> str:
    """The same for a table: +.012 (-.008, +.032), with leading zeros."""
    found = t_interval(differences)
    bounds = "" if found["low"] is None else f" ({found['low']:+.3f}, {found['high']:+.3f})"
    return f"{found['estimate']:+.3f}{bounds}"
