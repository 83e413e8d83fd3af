"""pairs: the drawn pairs in TRL's form. Usage: pairs.py TASK SAMPLE SCORED BASE OUTPUT RESOURCES"""

import sys
from pathlib import Path

from dartune import params
from dartune.errors import one_line
from dartune.files.resources import measured
from dartune.pairs.pairs import write_pairs


@one_line
def main(task: str, sample: str, scored: str, base: str, output: str, resources: str) -> None:
    with measured(Path(resources)):
        section = params.section("pairs", write_pairs)
        write_pairs(task, Path(sample), Path(scored), Path(base), Path(output), **section)


if __name__ == "__main__":
    main(*sys.argv[1:])
