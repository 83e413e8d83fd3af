"""referee: what decides a verdict, for pools that a search writes. Usage: referee.py TASK OUTPUT"""

import sys
from pathlib import Path

from dartune import params
from dartune.mistake import one_line
from dartune.rules import write_rules


@one_line
def main(task: str, output: str) -> None:
    write_rules(task, Path(output), **params.section("score", write_rules))


if __name__ == "__main__":
    main(*sys.argv[1:])
