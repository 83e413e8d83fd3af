"""Ways of tuning against each other, and against the frozen base model at the same evaluations and seconds.

`make trainers`, or: python benchmarks/trainers.py --arms sft dpo --seeds 0 1. On test instances; what had to be chosen
was chosen on validation instances. What exists is not run again: `dvc exp remove NAME`. --table prints what there is.

What an arm finds is the best program of the pool it learnt from and of its fresh samples; an online trainer keeps no
pool, so only its samples count. The frozen base model gets as many samples as the arm had judged in all (pool, rewards,
watch, gate, fresh samples), or as it writes and judges in the seconds that the arm took up to its tuned model.
"""

import argparse
import io
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import dvc.api
import numpy as np
import pyarrow.parquet as pq
from experiments import existing, run

from dartune import journal, params
from dartune.evaluation import judged, written
from dartune.evidence import t_text
from dartune.generation import Sampling
from dartune.referee import MAX_SLOWDOWN, MEMORY_MIB
from dartune.task import Task

ARMS: dict[str, dict[str, object]] = {
    "dpo": {},
    "dpo uniform": {"sample.strategy": "uniform"},
    "dpo shuffled": {"sample.strategy": "shuffled"},
    "sft": {"train.method": "sft"},
    "grpo": {"train.method": "grpo"},
    "rloo": {"train.method": "rloo"},
    "dpo 2 rounds": {"rounds.n": 2},
}
ONLINE = ("grpo", "rloo")
TASKS = ["admissible_set", "tsp_construct"]
SEEDED = ("pool", "sample", "pairs", "train", "evaluate")
SPLIT = "test"
N_FROZEN = 5000  # samples of the frozen base model, out of which means of the best are taken
N_DRAWS = 2000
FIGURES = ("validity", "mean", "median", "top_10", "better_than_template", "distinct_behaviours")
FROZEN = Path(".work/frozen")


def settings_of(arm: str, seed: int) -> dict[str, object]:
    seeds = {f"{stage}.seed": seed for stage in SEEDED}
    return {"tasks": f"[{','.join(TASKS)}]", "evaluate.with_shifted": "false"} | seeds | ARMS[arm]


def frozen(task: str, seed: int) -> tuple[np.ndarray, float]:
    """Qualities (N_FROZEN,) of the base model's samples on the held-out split, and the seconds that one takes."""
    file = FROZEN / f"{task}-{seed}.json"
    if not file.exists():
        began, this = time.perf_counter(), Task(task)
        sampling = Sampling(temperature=1.0, top_p=0.95, max_new_tokens=256)
        rows = written(task, "frozen", Path("models/base"), None, N_FROZEN, 500, 1000 + seed, sampling)
        limits = {"max_slowdown": MAX_SLOWDOWN, "memory_mib": MEMORY_MIB, "cluster": None}
        qualities = judged(this, SPLIT, {"base": rows}, limits)["quality"].to_pylist()
        seconds = (time.perf_counter() - began) / N_FROZEN
        journal.write_json(file, {"seconds": seconds, "qualities": qualities})
    found = json.loads(file.read_text())
    return np.array(found["qualities"]), found["seconds"]


def spent(arm: str, task: str, name: str) -> tuple[int, int, float]:
    """Evaluations of the pool, evaluations in all and seconds, up to the tuned model."""
    content = params.everything()
    stages = ["train"] if arm in ONLINE else ["pool", "score", "sample", "pairs", "train"]
    stages += ["rounds"] if "rounds.n" in ARMS[arm] else []
    files = [f"metrics/cost/{stage}/{task}.json" for stage in stages]
    seconds = sum(dvc.api.metrics_show(file, rev=name)["seconds"] for file in files)
    watch, n_pool = content["train"]["watch"], 0 if arm in ONLINE else content["pool"]["n_programs"]
    n_watched = (watch["n_times"] + 1) * watch["n_samples"]
    n = n_watched + (content["trainers"][arm]["n_completions"] if arm in ONLINE else n_pool)
    if "rounds" in stages:  # another pool, another training, and five models at two gates
        n += n_pool + n_watched + 5 * content["rounds"]["n_samples"]
    return n_pool, n, seconds


def fresh(task: str, name: str) -> np.ndarray:
    """Qualities of the tuned model's samples on the held-out split."""
    with dvc.api.open(f"data/evaluation/{task}.parquet", rev=name, mode="rb") as stream:
        table = pq.read_table(io.BytesIO(stream.read()))
    rows = table.select(["model", "split", "quality"]).to_pylist()
    return np.array([row["quality"] for row in rows if (row["model"], row["split"]) == ("tuned", SPLIT)])


def expected_best(first: np.ndarray, k: int, second: np.ndarray) -> float:
    """Mean, over draws, of the best of k of the first and all of the second."""
    rng, floor = np.random.default_rng(0), second.max(initial=0.0)
    drawn = [rng.choice(first, min(k, len(first)), replace=False).max() for _ in range(N_DRAWS)] if k else [0.0]
    return float(np.maximum(drawn, floor).mean())


def measured(arm: str, task: str, seed: int, name: str) -> dict[str, float]:
    """The tuned model's figures, what the arm found, and what the frozen base model found for the same cost."""
    figures = dvc.api.metrics_show(f"metrics/evaluate/{task}.json", rev=name)[SPLIT]
    base, seconds_each = frozen(task, seed)
    (n_pool, n, seconds), tuned = spent(arm, task, name), fresh(task, name)
    none = np.zeros(0)
    return {
        **{figure: figures["tuned"][figure] for figure in FIGURES},
        "mean_gain": figures["tuned"]["mean"] - figures["base"]["mean"],
        "top_10_gain": figures["tuned"]["top_10"] - figures["base"]["top_10"],
        "found": expected_best(base, n_pool, tuned),
        "same_evaluations": expected_best(base, n + len(tuned), none),
        "same_seconds": expected_best(base, round(seconds / seconds_each) + len(tuned), none),
        "seconds": seconds,
        "evaluations": n,
    }


def lines(found: dict[tuple[str, str, int], dict[str, float]]) -> Iterator[str]:
    """Two tables: the tuned models themselves, and the best program found against the frozen base model's."""
    cells = {key[:2]: [found[other] for other in found if other[:2] == key[:2]] for key in found}
    yield "| task | arm | seeds | " + " | ".join(FIGURES) + " | mean - base | top 10 - base |"
    yield "|" + "---|" * (len(FIGURES) + 5)
    for (task, arm), rows in cells.items():
        shown = [f"{statistics.mean(row[figure] for row in rows):.3f}" for figure in FIGURES]
        gains = [t_text([row[gain] for row in rows]) for gain in ("mean_gain", "top_10_gain")]
        yield "| " + " | ".join([task, arm, str(len(rows)), *shown, *gains]) + " |"
    yield ""
    yield "| task | arm | evaluations | seconds | best found | - base, same evaluations | - base, same seconds |"
    yield "|" + "---|" * 7
    for (task, arm), rows in cells.items():
        means = [statistics.mean(row[name] for row in rows) for name in ("evaluations", "seconds", "found")]
        gains = [t_text([row["found"] - row[name] for row in rows]) for name in ("same_evaluations", "same_seconds")]
        yield f"| {task} | {arm} | {means[0]:.0f} | {means[1]:.0f} | {means[2]:.3f} | {gains[0]} | {gains[1]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="run nothing")
    asked = parser.parse_args()
    names = {f"trainers-{arm}-{seed}".replace(" ", "-"): (arm, seed) for seed in asked.seeds for arm in asked.arms}
    if not asked.table:
        targets = [f"evaluate@{task}" for task in TASKS]
        run({name: settings_of(*key) for name, key in names.items()}, targets, [])
    done = existing()
    keys = {(task, *names[name]): name for task in TASKS for name in names if name in done}
    for line in lines({key: measured(key[1], key[0], key[2], name) for key, name in keys.items()}):
        print(line)


if __name__ == "__main__":
    main()
