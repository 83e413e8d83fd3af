"""train: the model tuned on the pairs. Usage: train.py TASK PAIRS BASE OUTPUT METRICS PLOTS COST"""

import sys
from pathlib import Path

from dartune import params
from dartune.cost import measured
from dartune.mistake import one_line
from dartune.training import write_tuned


@one_line
def main(task: str, pairs: str, base: str, output: str, metrics: str, plots: str, cost: str) -> None:
    with measured(Path(cost)):
        write_tuned(
            task,
            Path(pairs),
            Path(base),
            Path(output),
            Path(metrics),
            Path(plots),
            **params.section("train", write_tuned),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
