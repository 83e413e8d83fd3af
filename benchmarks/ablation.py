"""Strategies against each other: the pipeline with each of them, as DVC experiments, equal in all but the pairs.

`make ablation`, or: python benchmarks/ablation.py --strategies dar uniform --seeds 0 1 2. On validation instances. What
exists is not run again: `dvc exp remove NAME` to have an experiment anew. --table prints what there is.
"""

import argparse
import statistics
from collections.abc import Iterator

import dvc.api
from experiments import existing, run

from dartune.evaluation.statistics import interval_text, t_interval

STRATEGIES = ("dar", "dar_behaviour", "uniform", "top_k", "evotune", "shuffled")
# The first strategy of each seed comes first: it makes the seed's pool, which the others find in the run cache.
SEEDED = ("pool", "sample", "pairs", "train", "evaluate")
N_PAIRS = 200  # what every pool gives under every strategy
SETTINGS: dict[str, object] = {
    "presets/embedded.yaml:sample.n_pairs": N_PAIRS,
    "evaluate.held_out": "validation",
    "evaluate.with_shifted": "false",
}
BASELINE = "uniform"
FIGURES = ("validity", "mean", "median", "top_10", "better_than_template", "distinct_behaviours")


def settings_of(strategy: str, seed: int) -> dict[str, object]:
    return SETTINGS | {"sample.strategy": strategy} | {f"{stage}.seed": seed for stage in SEEDED}


def measured(names: dict[str, tuple[str, int]]) -> dict[tuple[str, str, int], dict[str, float]]:
    """(task, strategy, seed) -> figures of the tuned model; strategy "base": those of the base model."""
    found = {}
    for name, (strategy, seed) in names.items():
        for task in dvc.api.params_show(rev=name)["tasks"]:
            figures = dvc.api.metrics_show(f"metrics/evaluate/{task}.json", rev=name)["validation"]
            found[task, strategy, seed] = figures["tuned"]
            found[task, "base", seed] = figures["base"]
    return found


def lines(found: dict[tuple[str, str, int], dict[str, float]]) -> Iterator[str]:
    tasks, seeds = sorted({task for task, _, _ in found}), sorted({seed for _, _, seed in found})
    strategies = list(dict.fromkeys(key[1] for key in found))
    yield "| task | strategy | seeds | " + " | ".join(FIGURES) + f" | mean - base | mean - {BASELINE} |"
    yield "|" + "---|" * (len(FIGURES) + 5)
    for task in tasks:
        for strategy in ["base", *(each for each in strategies if each != "base")]:
            there = [seed for seed in seeds if (task, strategy, seed) in found]
            shown = [f"{statistics.mean(found[task, strategy, s][f] for s in there):.3f}" for f in FIGURES]
            against = [difference(found, task, strategy, other, there) for other in ("base", BASELINE)]
            yield f"| {task} | {strategy} | {len(there)} | " + " | ".join([*shown, *against]) + " |"


def difference(
    found: dict[tuple[str, str, int], dict[str, float]], task: str, strategy: str, other: str, seeds: list[int]
) -> str:
    """Of the means, seed by seed: the same pool and the same samples of the base model."""
    both = [seed for seed in seeds if (task, other, seed) in found and strategy != other]
    pairs = [(found[task, strategy, seed]["mean"], found[task, other, seed]["mean"]) for seed in both]
    return interval_text(t_interval([ours - theirs for ours, theirs in pairs])) if pairs else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--prefix", default="ablation", help="of the experiments' names")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further parameters")
    parser.add_argument("--table", action="store_true", help="run nothing")
    asked = parser.parse_args()
    names = {
        f"{asked.prefix}-{s}-{seed}".replace("_", "-"): (s, seed) for s in asked.strategies for seed in asked.seeds
    }
    if not asked.table:
        run({name: settings_of(*key) for name, key in names.items()}, [], asked.set)
    done = existing()
    for line in lines(measured({name: key for name, key in names.items() if name in done})):
        print(line)


if __name__ == "__main__":
    main()
