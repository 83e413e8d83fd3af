"""The data sheet of the drawn pairs: metrics and warnings. datasheet.md.jinja shows them."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

VIEWS = Path(__file__).parent / "datasheet.sql"
MIN_FILLED = 0.5  # of the pairs asked for
NOISE = 2.0  # paired t statistic below which a difference over the instances may be chance
N_COMPARED = 500  # programs whose signatures are compared pairwise
QUANTILES = {"least": 0, "tenth": 0.1, "median": 0.5, "nine_tenths": 0.9, "greatest": 1}


def pair_metrics(connection: duckdb.DuckDBPyConnection, pairs: pa.Table, n_asked: int) -> dict[str, Any]:
    """Return the metrics of the drawn pairs, by which strategies are compared. n_asked: pairs that were asked for.

    connection: has the pool as `scored` (sample.connect). gap_score: differences in the task's unit, of pairs without
    failures. gap_rank: their mean difference in rank, as a share of the valid pool. ties: share of equal scores, in
    random pairs of valid programs and in these. below_noise: share of the pairs whose paired t is below NOISE, None for
    a single instance. length_bias: share of the pairs whose chosen program is longer (half of those of equal length),
    minus a half; 0 is none.
    """
    connection.register("pairs", pairs)
    connection.execute(VIEWS.read_text())
    rows = connection.sql("from traits order by pair, role").to_arrow_table().to_pylist()
    roles = {role: [row for row in rows if row["role"] == role] for role in ("chosen", "rejected")}
    valid = [row for row in pairs.to_pylist() if row["rejected_score"] is not None]
    gaps = [row["chosen_score"] - row["rejected_score"] for row in valid]
    return {
        "n_asked": n_asked,
        "n_pairs": len(pairs),
        "parts": dict(sorted(Counter(pairs["strategy"].to_pylist()).items())),
        "n_flipped": sum(pairs["is_flipped"].to_pylist()),
        "pool": connection.sql("from counts").to_arrow_table().to_pylist()[0],
        "gap_score": {name: rounded(np.quantile(gaps, q)) for name, q in QUANTILES.items()} if gaps else {},
        "gap_rank": rounded(np.mean([row["rejected_rank"] - row["chosen_rank"] for row in valid] or [0])),
        "ties": {
            "pool": rounded(connection.sql("from ties").fetchall()[0][0]),
            "pairs": rounded(np.mean(np.equal(gaps, 0))) if gaps else None,
        },
        "below_noise": below_noise([row["t"] for row in valid]),
        "length_bias": length_bias(roles["chosen"], roles["rejected"]),
        "chosen": role_metrics(roles["chosen"]),
        "rejected": role_metrics(roles["rejected"]),
    }


def role_metrics(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the metrics of the chosen or of the rejected programs. rows: of view traits, one per pair.

    failures: how many, by status. by_tenth: programs by tenth of the valid pool, best first. entropy: of by_tenth.
    distinct_*: shares of the programs. distance: see mean_distance.
    """
    valid = [row for row in rows if row["status"] == "ok"]
    tenths = np.bincount([min(int(10 * row["rank"]), 9) for row in valid], minlength=10)
    distinct = {
        f"distinct_{name}": rounded(len({row[key] for row in rows if row[key] is not None}) / len(rows))
        for name, key in (("programs", "text"), ("trees", "tree"), ("shapes", "shape"), ("behaviours", "behaviour"))
    }
    return {
        "failures": dict(sorted(Counter(row["status"] for row in rows if row["status"] != "ok").items())),
        "by_tenth": {f"{10 * i}-{10 * i + 10} %": int(n) for i, n in enumerate(tenths)},
        "entropy": entropy(tenths),
        "n_behaviours": len({row["behaviour"] for row in valid}),
        **distinct,
        "distance": mean_distance([row["signature"] for row in valid]),
        "n_families": len({row["family"] for row in valid}),
        "mean_characters": rounded(np.mean([row["n_characters"] or 0 for row in rows])),
    }


def entropy(counts: np.ndarray) -> float:
    """Return the entropy of the counts as a fraction of the highest possible: 1 is uniform, 0 all in one."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return rounded(abs(float((shares * np.log(shares)).sum())) / math.log(len(counts)))


def mean_distance(signatures: list[list[int]]) -> float | None:
    """Return the mean share of moves that two programs do not share, estimated from signatures (behaviour.py).

    Over all pairs among the first N_COMPARED programs; None for fewer than two programs.
    """
    if len(signatures) < 2:
        return None
    bits = np.unpackbits(np.array(signatures[:N_COMPARED], np.uint64).view(np.uint8), axis=-1)
    signs = 1.0 - 2.0 * bits
    common = np.clip(signs @ signs.T / signs.shape[1], 0, 1)  # estimated share of common moves (Jaccard)
    n = len(bits)
    return rounded(1 - (common.sum() - n) / (n * (n - 1)))


def below_noise(statistics: list[float | None]) -> float | None:
    """Return the share of the paired t statistics that are below NOISE, None where there are none."""
    tested = [t for t in statistics if t is not None]
    return rounded(np.mean(np.array(tested) < NOISE)) if tested else None


def length_bias(chosen: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> float:
    """Return the share of pairs whose chosen program is longer, minus a half. Failures without text do not count."""
    lengths = [(a["n_characters"], b["n_characters"]) for a, b in zip(chosen, rejected, strict=True)]
    signs = [np.sign(a - b) for a, b in lengths if b is not None]
    return rounded(np.mean(signs or [0]) / 2)


def rounded(value: float | np.floating[Any]) -> float:
    """Return the value with the six decimals of metrics files."""
    return round(float(value), 6)


def warnings_of(measured: dict[str, Any], limits: dict[str, float]) -> list[str]:
    """Return a warning for every limit (params.yaml, section sample) that the pairs violate.

    measured: of pair_metrics. limits: "length_bias" and "below_noise" as shares, "behaviours" as a least number.
    """
    chosen, bias, noise = measured["chosen"], measured["length_bias"], measured["below_noise"]
    longer = "longer" if bias > 0 else "shorter"
    doubts = {
        f"only {measured['n_pairs']} of {measured['n_asked']} pairs: the pool has no more": (
            measured["n_pairs"] < MIN_FILLED * measured["n_asked"]
        ),
        f"the labels of {measured['n_flipped']} pairs are flipped: a control": measured["n_flipped"] > 0,
        f"length bias: the chosen program is the {longer} one in {100 * (0.5 + abs(bias)):.0f} % of the pairs "
        f"(limit {100 * (0.5 + limits['length_bias']):.0f} %)": abs(bias) > limits["length_bias"],
        f"chosen programs act in {chosen['n_behaviours']} ways (limit {limits['behaviours']})": (
            chosen["n_behaviours"] < limits["behaviours"]
        ),
        f"{100 * (noise or 0):.0f} % of the gaps are below noise, paired t < {NOISE:g} "
        f"(limit {100 * limits['below_noise']:.0f} %)": (noise or 0) > limits["below_noise"],
    }
    return [text for text, is_so in doubts.items() if is_so]
