"""evaluate: base and tuned model on held-out instances. Usage: evaluate.py TASK BASE TUNED OUTPUT METRICS COST"""

import sys
from pathlib import Path

from dartune import params
from dartune.cost import measured
from dartune.evaluation import write_evaluation
from dartune.mistake import one_line


@one_line
def main(task: str, base: str, tuned: str, output: str, metrics: str, cost: str) -> None:
    with measured(Path(cost)):
        write_evaluation(
            task,
            Path(base),
            Path(tuned),
            Path(output),
            Path(metrics),
            **params.section("evaluate", write_evaluation),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
