"""sample: the pairs that a strategy draws from the pool. Usage: sample.py TASK SCORED OUTPUT METRICS SHEET RESOURCES"""

import sys
from pathlib import Path

from dartune import params
from dartune.errors import one_line
from dartune.files.resources import measured
from dartune.pairs.sample import write_sample


@one_line
def main(task: str, scored: str, output: str, metrics: str, sheet: str, resources: str) -> None:
    with measured(Path(resources)):
        section = params.section("sample", write_sample)
        write_sample(task, Path(scored), Path(output), Path(metrics), Path(sheet), **section)


if __name__ == "__main__":
    main(*sys.argv[1:])
