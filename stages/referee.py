"""referee: what decides a verdict, for pools that a search writes. Usage: referee.py TASK OUTPUT"""

import sys
from pathlib import Path

from dartune import params
from dartune.errors import one_line
from dartune.pool.ask_tell import INDEPENDENT, methods
from dartune.referee.referee import write_referee


@one_line
def main(task: str, output: str) -> None:
    judges = {method: method != INDEPENDENT for method in methods()}
    write_referee(task, judges, Path(output), **params.section("score", write_referee))


if __name__ == "__main__":
    main(*sys.argv[1:])
