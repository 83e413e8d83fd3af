"""Ways of tuning against each other, and against the frozen base model at the same evaluations and seconds.

`make trainers`, or: python benchmarks/trainers.py --arms sft dpo --seeds 0 1. On test instances; what had to be chosen
was chosen on validation instances. What every seed came to stands in metrics/trainers.json, which the report shows and
which is in git: what stands there is not run again. Prints the tables; --table runs nothing.

What an arm finds is the best program of the pool it learnt from and of its fresh samples; an online trainer keeps no
pool, so only its samples count. The frozen base model gets as many samples as the arm had judged in all (pool, rewards,
probe, gate, fresh samples), or as it writes and judges in the seconds that the arm took up to its tuned model.

Seconds are those of processors, start-up included: experiments run side by side, where clocks tell little. Stages that
experiments share run once, and then count as this working tree's last run of them did.
"""

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

import dvc.api
import numpy as np
import pyarrow.parquet as pq
from experiments import METRICS, RESOURCES, SEEDED, existing, run

from dartune import params
from dartune.evaluation.baseline import complete
from dartune.evaluation.evaluate import evaluate
from dartune.evaluation.statistics import interval_text
from dartune.files import atomic
from dartune.models.backend import Decoding
from dartune.referee.referee import MAX_SLOWDOWN, MEMORY_MIB
from dartune.report.table import arm_summary
from dartune.tasks.task import Task

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
SPLIT = "test"
N_FROZEN = 5000  # samples of the frozen base model, out of which means of the best are taken
N_DRAWS = 2000
FROZEN = Path(".work/frozen")
OUTPUT = Path("metrics/trainers.json")


def settings_of(arm: str, seed: int) -> dict[str, object]:
    seeds = {f"{stage}.seed": seed for stage in SEEDED}
    return {"tasks": TASKS, "evaluate.with_shifted": False} | seeds | ARMS[arm]


def frozen(task: str, seed: int) -> tuple[np.ndarray, float]:
    """Qualities (N_FROZEN,) of the base model's samples on the held-out split, and the seconds that one takes."""
    file = FROZEN / f"{task}-{seed}.json"
    if not file.exists():
        began, this = processor_seconds(), Task(task)
        decoding = Decoding(temperature=1.0, top_p=0.95, max_new_tokens=256)
        place: dict[str, Any] = {"label": f"{task} frozen", "work": FROZEN / f"{task}-{seed}"}
        drawn: dict[str, Any] = {"n_samples": N_FROZEN, "batch_size": 500, "seed": 1000 + seed, "decoding": decoding}
        rows = complete(this, "frozen", None, base=Path("models/base"), server=None, **drawn, **place)
        limits = {"max_slowdown": MAX_SLOWDOWN, "memory_mib": MEMORY_MIB, "cluster": None}
        table, _ = evaluate(this, SPLIT, {"base": rows}, limits, **place)
        qualities = table["quality"].to_pylist()
        seconds = (processor_seconds() - began) / N_FROZEN
        atomic.write_json(file, {"seconds": seconds, "qualities": qualities})
    cached = json.loads(file.read_text())
    return np.array(cached["qualities"]), cached["seconds"]


def processor_seconds() -> float:
    """Of this process and of those that it has waited for, the referee's among them."""
    return sum(usage.ru_utime + usage.ru_stime for usage in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))


def spent(arm: str, task: str, name: str) -> tuple[int, int, float]:
    """Evaluations of the pool, evaluations in all and seconds, up to the tuned model."""
    content = params.everything()
    stages = ["train"] if arm in ONLINE else ["pool", "score", "sample", "pairs", "train"]
    stages += ["rounds"] if "rounds.n" in ARMS[arm] else []
    files = [RESOURCES / name / f"metrics/resources/{stage}/{task}.json" for stage in stages]
    seconds = sum(json.loads(file.read_text())["cpu_seconds"] for file in files)
    probe, n_pool = content["train"]["probe"], 0 if arm in ONLINE else content["pool"]["n_programs"]
    n_probed = (probe["n_times"] + 1) * probe["n_samples"]
    n = n_probed + (content["trainers"][arm]["n_completions"] if arm in ONLINE else n_pool)
    if "rounds" in stages:  # another pool, another training, and five models at two gates
        n += n_pool + n_probed + 5 * content["rounds"]["n_samples"]
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
    figures = json.loads(dvc.api.read(f"metrics/evaluate/{task}.json", rev=name))[SPLIT]
    base, seconds_each = frozen(task, seed)
    (n_pool, n, seconds), tuned = spent(arm, task, name), fresh(task, name)
    none = np.zeros(0)
    return {
        **{figure: figures["tuned"][figure] for figure in METRICS},
        **{f"{figure}_base": figures["base"][figure] for figure in METRICS},
        "best": expected_best(base, n_pool, tuned),
        "best_at_equal_evaluations": expected_best(base, n + len(tuned), none),
        "best_at_equal_seconds": expected_best(base, round(seconds / seconds_each) + len(tuned), none),
        "seconds": seconds,
        "evaluations": n,
    }


def lines(summaries: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Two tables: the tuned models themselves, and the best program found against the frozen base model's."""
    yield "| task | arm | seeds | " + " | ".join(METRICS) + " | mean - base | top 10 - base |"
    yield "|" + "---|" * (len(METRICS) + 5)
    for task, arms in summaries.items():
        base = next(iter(arms.values()))
        yield "| " + " | ".join([task, "base", "", *(f"{base[f'{figure}_base']:.3f}" for figure in METRICS)]) + " | | |"
        for arm, row in arms.items():
            cells = [
                *(f"{row[figure]:.3f}" for figure in METRICS),
                *map(interval_text, (row["mean_gain"], row["top_10_gain"])),
            ]
            yield "| " + " | ".join([task, arm, str(row["n_seeds"]), *cells]) + " |"
    yield ""
    yield "| task | arm | evaluations | seconds | best found | - base, same evaluations | - base, same seconds |"
    yield "|" + "---|" * 7
    for task, arms in summaries.items():
        for arm, row in arms.items():
            cells = [f"{row['evaluations']:.0f}", f"{row['seconds']:.0f}", f"{row['best']:.3f}"]
            cells += map(interval_text, (row["same_evaluations"], row["same_seconds"]))
            yield "| " + " | ".join([task, arm, *cells]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="run nothing")
    asked = parser.parse_args()
    runs: dict[str, dict[str, dict[str, Any]]] = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    wanted = [(arm, seed) for seed in asked.seeds for arm in asked.arms]
    missing = [
        (arm, seed) for arm, seed in wanted if any(str(seed) not in runs.get(task, {}).get(arm, {}) for task in TASKS)
    ]
    names = {(arm, seed): f"trainers-{arm}-{seed}".replace(" ", "-") for arm, seed in missing}
    if names and not asked.table:
        targets = [f"evaluate@{task}" for task in TASKS]
        run({name: settings_of(*key) for key, name in names.items()}, targets, [])
    done = existing()
    for (arm, seed), name in names.items():
        for task in TASKS if name in done else []:
            runs.setdefault(task, {}).setdefault(arm, {})[str(seed)] = measured(arm, task, seed, name)
            atomic.write_json(OUTPUT, runs)
    summaries = {
        task: {arm: arm_summary([*seeds.values()]) for arm, seeds in arms.items()} for task, arms in runs.items()
    }
    print(*lines(summaries), sep="\n")


if __name__ == "__main__":
    main()
