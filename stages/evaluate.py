"""evaluate: both models on held-out instances. Usage: evaluate.py TASK BASE TUNED OUTPUT METRICS TRANSFER RESOURCES"""

import sys
from pathlib import Path

from dartune import params
from dartune.errors import one_line
from dartune.evaluation.evaluate import write_evaluation
from dartune.files.resources import measured


@one_line
def main(task: str, base: str, tuned: str, output: str, metrics: str, transferred: str, resources: str) -> None:
    with measured(Path(resources)):
        section = params.section("evaluate", write_evaluation)
        paths = (Path(path) for path in (base, tuned, output, metrics, transferred))
        write_evaluation(task, *paths, **section)


if __name__ == "__main__":
    main(*sys.argv[1:])
