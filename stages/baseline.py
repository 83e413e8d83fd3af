"""baseline: what the base model writes for evaluation. Usage: baseline.py TASK BASE OUTPUT RESOURCES"""

import sys
from pathlib import Path

from dartune import params
from dartune.errors import one_line
from dartune.evaluation.baseline import write_baseline
from dartune.files.resources import measured


@one_line
def main(task: str, base: str, output: str, resources: str) -> None:
    with measured(Path(resources)):
        write_baseline(task, Path(base), Path(output), **params.part("evaluate", write_baseline))


if __name__ == "__main__":
    main(*sys.argv[1:])
