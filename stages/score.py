"""score: the referee's verdict on every program of the pool. Usage: score.py TASK POOL BASE OUTPUT METRICS RESOURCES"""

import sys
from pathlib import Path

from dartune import params
from dartune.errors import one_line
from dartune.files.resources import measured
from dartune.referee.score import write_scored


@one_line
def main(task: str, pool: str, base: str, output: str, metrics: str, resources: str) -> None:
    with measured(Path(resources)):
        write_scored(task, Path(pool), Path(base), Path(output), Path(metrics), **params.section("score", write_scored))


if __name__ == "__main__":
    main(*sys.argv[1:])
