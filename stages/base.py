"""base: the base model, trained or pointed to. Usage: base.py OUTPUT METRICS"""

import sys
from pathlib import Path

from dartune import params
from dartune.embedded import make_base
from dartune.mistake import one_line


@one_line
def main(output: str, metrics: str) -> None:
    make_base(Path(output), Path(metrics), **params.section("base", make_base))


if __name__ == "__main__":
    main(*sys.argv[1:])
