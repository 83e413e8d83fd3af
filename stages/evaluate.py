"""evaluate: both models on held-out instances.

Usage: evaluate.py TASK BASE BASELINE TUNED OUTPUT METRICS TRANSFER RESOURCES
"""

import sys
from pathlib import Path

from dartune import params
from dartune.errors import one_line
from dartune.evaluation.evaluate import write_evaluation
from dartune.files.resources import measured


@one_line
def main(task: str, *files: str) -> None:
    *paths, resources = map(Path, files)
    with measured(resources):
        write_evaluation(task, *paths, **params.section("evaluate", write_evaluation))


if __name__ == "__main__":
    main(*sys.argv[1:])
