"""`dartune pool`: what a task's pool holds, for a person to look at before anything is trained on it."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from dartune import params
from dartune.errors import UserError
from dartune.files import parquet
from dartune.programs.escape import plain
from dartune.referee.score import SPLIT

SCORED = Path("data/scored")
COLUMNS = ["id", "completion", "program", "status", "reason", "score", "behaviour"]
QUANTILES = {"best": 1.0, "90 %": 0.9, "median": 0.5, "10 %": 0.1, "worst": 0.0}
N_FAILURES = 3  # kinds of failure that are shown with an answer
MAX_LINES = 30  # of an answer


def overview(task: str, n: int) -> dict[str, Any]:
    """Return what a scored pool holds.

    n: programs among "best" and "worst". {"n", "status": counts, "scores": quantiles, "distinct_programs",
    "distinct_behaviours", "best", "worst": [{"id", "score", "program"}], "failures": [{"status", "reason", "n", "id",
    "completion"}], the commonest first}. Raises UserError where the pool was not scored.
    """
    file = SCORED / f"{task}.parquet"
    if not params.FILE.exists():
        raise UserError(f"{params.FILE} is missing; run from the root of the project")
    if not file.exists():
        raise UserError(f"{file} is missing; score@{task} makes it: dvc repro score@{task}, or dvc pull score@{task}")
    rows = parquet.read(file).select(COLUMNS).to_pylist()
    valid = sorted((row for row in rows if row["score"] is not None), key=lambda row: -row["score"])
    scores = [row["score"] for row in valid]
    ranked = list({row["behaviour"]: row for row in reversed(valid)}.values())[::-1]  # of those that act alike, one
    shown = [{key: row[key] for key in ("id", "score", "program")} for row in ranked]
    return {
        "n": len(rows),
        "status": dict(Counter(row["status"] for row in rows).most_common()),
        "scores": {name: float(np.quantile(scores, q)) for name, q in QUANTILES.items()} if scores else {},
        "distinct_programs": len({row["program"] for row in valid}),
        "distinct_behaviours": len(ranked),
        "best": shown[:n],
        "worst": shown[-n:] if len(shown) > n else [],
        "failures": failures(rows),
    }


def failures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the commonest kinds of failure, by status and reason, each with one answer that failed so."""
    failed = [row for row in rows if row["score"] is None]
    counts = Counter((row["status"], row["reason"]) for row in failed)
    first = {(row["status"], row["reason"]): row for row in reversed(failed)}
    return [
        {"status": status, "reason": reason, "n": n} | {key: first[status, reason][key] for key in ("id", "completion")}
        for (status, reason), n in counts.most_common(N_FAILURES)
    ]


def readable(task: str, pool: dict[str, Any]) -> str:
    """Return an overview as text. What models wrote cannot control the terminal."""
    counts = ", ".join(f"{n} {status}" for status, n in pool["status"].items())
    scores = ", ".join(f"{name} {score:.4g}" for name, score in pool["scores"].items()) or "none: no program is valid"
    lines = [
        f"{task}: {pool['n']} answers: {counts}",
        f"of the valid: {pool['distinct_programs']} texts, {pool['distinct_behaviours']} behaviours",
        f"scores on split {SPLIT}: {scores}",
    ]
    for name in ("best", "worst"):
        for row in pool[name]:
            lines += ["", f"{name}: {row['id']}, score {row['score']:.6g}", *shortened(row["program"])]
    for row in pool["failures"]:
        reason = " ".join(row["reason"].split())[:100]
        lines += ["", f"{row['n']} failed as {row['status']} ({reason}), such as {row['id']}:"]
        lines += shortened(row["completion"])
    return plain("\n".join(lines))


def shortened(text: str) -> list[str]:
    """Return the lines of a text, indented, at most MAX_LINES of them."""
    lines = text.strip().splitlines()
    left = [f"    ... {len(lines) - MAX_LINES} more lines"] if len(lines) > MAX_LINES else []
    return [f"    {line}" for line in lines[:MAX_LINES]] + left
