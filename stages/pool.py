"""pool: what the base model writes to the task's prompt, or an imported pool. Usage: pool.py TASK SOURCE OUTPUT"""

import sys
from pathlib import Path

from dartune import params
from dartune.mistake import one_line
from dartune.pool import write_pool


@one_line
def main(task: str, source: str, output: str) -> None:
    write_pool(task, Path(output), **params.section("pool", write_pool) | {"source": source})


if __name__ == "__main__":
    main(*sys.argv[1:])
