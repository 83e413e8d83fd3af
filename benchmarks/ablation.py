"""Strategies against each other: the pipeline with each of them, as DVC experiments that differ in the pairs alone.

`make ablation`, or: python benchmarks/ablation.py --strategies dar uniform --seeds 0 1 2. On validation instances. An
experiment that exists is not run again: `dvc exp remove NAME` to repeat it. --table prints the results so far.
"""

import argparse
import json
import statistics
from collections.abc import Iterator

import dvc.api
from experiments import METRICS, SEEDED, existing, run

from dartune.evaluation.statistics import interval_text, t_interval

STRATEGIES = ("dar", "dar_behaviour", "uniform", "top_k", "evotune", "shuffled")
# The first strategy of each seed runs first: it makes the seed's pool, which the others find in the run cache.
N_PAIRS = 200  # what every pool gives under every strategy
SETTINGS: dict[str, object] = {
    "presets/embedded.yaml:sample.n_pairs": N_PAIRS,
    "evaluate.held_out": "validation",
    "evaluate.with_shifted": False,
}
BASELINE = "uniform"
Measured = dict[tuple[str, str, int], dict[str, float]]  # metrics by (task, strategy, seed)


def settings_of(strategy: str, seed: int) -> dict[str, object]:
    return SETTINGS | {"sample.strategy": strategy} | {f"{stage}.seed": seed for stage in SEEDED}


def measured(names: dict[str, tuple[str, int]]) -> Measured:
    """Return the metrics of the tuned models; under the strategy "base", those of the base model."""
    metrics: Measured = {}
    for name, (strategy, seed) in names.items():
        for task in dvc.api.params_show(rev=name)["tasks"]:
            models = json.loads(dvc.api.read(f"metrics/evaluate/{task}.json", rev=name))["validation"]
            metrics[task, strategy, seed] = models["tuned"]
            metrics[task, "base", seed] = models["base"]
    return metrics


def lines(metrics: Measured) -> Iterator[str]:
    tasks, seeds = sorted({task for task, _, _ in metrics}), sorted({seed for _, _, seed in metrics})
    strategies = dict.fromkeys(strategy for _, strategy, _ in metrics)
    yield "| task | strategy | seeds | " + " | ".join(METRICS) + f" | mean - base | mean - {BASELINE} |"
    yield "|" + "---|" * (len(METRICS) + 5)
    for task in tasks:
        for strategy in sorted(strategies, key=lambda name: name != "base"):
            runs = {seed: metrics[task, strategy, seed] for seed in seeds if (task, strategy, seed) in metrics}
            means = [f"{statistics.mean(run[name] for run in runs.values()):.3f}" for name in METRICS]
            against = [difference(metrics, task, strategy, other, list(runs)) for other in ("base", BASELINE)]
            yield f"| {task} | {strategy} | {len(runs)} | " + " | ".join([*means, *against]) + " |"


def difference(metrics: Measured, task: str, strategy: str, other: str, seeds: list[int]) -> str:
    """Return the difference of the means, seed by seed: the same pool, and the same samples of the base model."""
    common = [seed for seed in seeds if (task, other, seed) in metrics and strategy != other]
    if not common:
        return ""
    return interval_text(
        t_interval([metrics[task, strategy, seed]["mean"] - metrics[task, other, seed]["mean"] for seed in common])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--prefix", default="ablation", help="of the experiments' names")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further parameters")
    parser.add_argument("--table", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    names = {
        f"{arguments.prefix}-{strategy}-{seed}".replace("_", "-"): (strategy, seed)
        for strategy in arguments.strategies
        for seed in arguments.seeds
    }
    if not arguments.table:
        run({name: settings_of(*key) for name, key in names.items()}, [], arguments.set)
    finished = existing()
    print(*lines(measured({name: key for name, key in names.items() if name in finished})), sep="\n")


if __name__ == "__main__":
    main()
