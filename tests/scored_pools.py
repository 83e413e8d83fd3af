"""Scored pools made by hand, and what strategies draw from them."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dartune.pairs.sample import connect, draw, run, write_sample
from dartune.pairs.strategies import strategies

UNSIGNED = pa.uint64()
TYPES = {
    "score": pa.float64(),
    "costs": pa.list_(pa.float64()),
    "behaviour": pa.string(),
    "signature": pa.list_(UNSIGNED),
    "n_characters": pa.int64(),
    "family": pa.string(),
    **dict.fromkeys(("text", "tree", "shape", "score_signature"), UNSIGNED),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "dar": {"one_per": "text", "n_subsets": 10, "gap": 2, "tau": 3.0},
    "dar_behaviour": {"n_subsets": 10, "gap": 2, "tau": 3.0, "cap": 4, "spread": 2, "min_gap": 0.0, "min_t": 0.0},
    "dar_authors_code": {"n_subsets": 10, "tau": 3.0},
    "top_k": {"one_per": "text", "top": 0.05},
    "uniform": {"one_per": "text"},
    "best_worst": {"one_per": "text"},
    "evotune": {"one_per": "text", "n_outputs": 8, "percentile": 0.3},
    "valid_invalid": {"share": 0.2},
}
LIMITS = {
    "max_length_bias": 0.5,
    "min_behaviours": 0,
    "max_below_noise": 1.0,
    "max_template_copies": None,
}  # no warnings


def pool(folder: Path, scores: list[float | None], **columns: list[Any]) -> Path:
    """A scored pool of programs p0, p1, .., each unlike all others in every trait; a score of None is a failure.

    Three instances, each costing minus the score, one more and one less: two programs differ alike on all. columns: in
    the place of these.
    """
    n = len(scores)
    chance = random.Random(0)
    kinds: dict[str, list[Any]] = {
        "id": [f"p{i}" for i in range(n)],
        "seed": [0] * n,
        "task": ["t"] * n,
        "prompt": ["solve t"] * n,
        "completion": [f"program {i}" for i in range(n)],
        "program": [f"program {i}" for i in range(n)],
        "status": ["runtime" if score is None else "ok" for score in scores],
        "reason": [f"reason {i}" if score is None else "" for i, score in enumerate(scores)],
        "score": list(scores),
        "costs": [None if score is None else [-score, 1 - score, -1 - score] for score in scores],
        "behaviour": [None if score is None else f"behaviour {i}" for i, score in enumerate(scores)],
        "signature": [None if score is None else [chance.getrandbits(64), chance.getrandbits(64)] for score in scores],
        "text": list(range(n)),
        "tree": list(range(n)),
        "shape": list(range(n)),
        "score_signature": [None if score is None else i for i, score in enumerate(scores)],
        "equals_template": [False] * n,
        "n_characters": [100] * n,
        "family": ["loop of 0"] * n,
    }
    table = pa.table({name: pa.array(values, TYPES.get(name)) for name, values in (kinds | columns).items()})
    pq.write_table(table, folder / "scored.parquet")
    return folder / "scored.parquet"


def drawn(
    file: Path, strategy: str | dict[str, float], n_pairs: int, seed: int = 0, **changes: dict[str, Any]
) -> list[dict[str, Any]]:
    """The pairs as rows. changes: of OPTIONS, by strategy."""
    shares = {strategy: 1.0} if isinstance(strategy, str) else strategy
    with connect(file, 256) as connection:
        return draw(connection, shares, changed(changes), n_pairs, seed).to_pylist()


def draws(
    file: Path, strategy: str, n_pairs: int, seeds: Iterable[int], **changes: dict[str, Any]
) -> list[list[tuple[Any, Any]]]:
    """For each seed the pairs as (score of the chosen program, score of the rejected one)."""
    scores = pq.read_table(file)["score"].to_pylist()
    with connect(file, 256) as connection:
        tables = [run(connection, strategy, changed(changes), n_pairs, seed) for seed in seeds]
    return [[(scores[row["chosen"]], scores[row["rejected"]]) for row in table.to_pylist()] for table in tables]


def changed(changes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert set(changes) <= set(OPTIONS)
    return {name: values | changes.get(name, {}) for name, values in OPTIONS.items()}


def published(folder: Path, file: Path, strategy: str | dict[str, float], n_pairs: int, **changes: Any) -> list[Path]:
    """The files of write_sample: pairs, metrics, data sheet."""
    files = [folder / "pairs.parquet", folder / "metrics.json", folder / "sheet.md"]
    limits = {key: changes.pop(key, value) for key, value in LIMITS.items()}
    options = {name: values for name, values in changed(changes).items() if name in strategies()}
    rule = {"strategy": strategy, "n_pairs": n_pairs, "seed": 0, "options": options}
    write_sample("t", file, *files, **rule, memory_mib=256, **limits)
    return files


def chi_square(counts: Iterable[int], shares: Iterable[float]) -> float:
    counts = list(counts)
    return sum((n - sum(counts) * share) ** 2 / (sum(counts) * share) for n, share in zip(counts, shares, strict=True))
