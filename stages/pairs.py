"""pairs: the drawn pairs in TRL's form. Usage: pairs.py SAMPLE SCORED BASE OUTPUT"""

import sys
from pathlib import Path

from dartune import params
from dartune.mistake import one_line
from dartune.pairs import write_pairs


@one_line
def main(sample: str, scored: str, base: str, output: str) -> None:
    write_pairs(Path(sample), Path(scored), Path(base), Path(output), **params.section("pairs", write_pairs))


if __name__ == "__main__":
    main(*sys.argv[1:])
