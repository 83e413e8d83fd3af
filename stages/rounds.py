"""rounds: the tuned model after more rounds, or as it is.

Usage: rounds.py TASK BASE TUNED POOL_LIMITS TRAIN_LIMITS OUTPUT FINAL METRICS RESOURCES
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dartune import params
from dartune.errors import one_line
from dartune.files.resources import measured
from dartune.pairs.pairs import write_pairs
from dartune.pairs.sample import write_sample
from dartune.pool import search_loop
from dartune.pool.pool import write_pool
from dartune.referee.score import write_scored
from dartune.rounds import FirstRound, Settings, write_rounds
from dartune.training import trainers
from dartune.training.train import write_tuned

STAGES: dict[str, Callable[..., Any]] = {
    "pool": write_pool,
    "score": write_scored,
    "sample": write_sample,
    "pairs": write_pairs,
    "train": write_tuned,
}


@one_line
def main(
    task: str,
    base: str,
    tuned: str,
    pool_limits: str,
    train_limits: str,
    output: str,
    final: str,
    metrics: str,
    resources: str,
) -> None:
    sections = {name: params.section(name, function) for name, function in STAGES.items()}
    settings = Settings(
        **sections,
        search_options=search_loop.options(sections["pool"]["method"]),
        trainer_options=trainers.options_of(sections["train"]["method"]),
    )
    first = FirstRound(*map(Path, (base, tuned, pool_limits, train_limits)))
    with measured(Path(resources)):
        section = params.section("rounds", write_rounds)
        write_rounds(task, first, settings, Path(output), Path(final), Path(metrics), **section)


if __name__ == "__main__":
    main(*sys.argv[1:])
