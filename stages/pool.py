"""pool: what a model writes, alone or in a search. Usage: pool.py TASK SOURCE LIMITS OUTPUT METRICS RESOURCES"""

import sys
from pathlib import Path

from dartune import params
from dartune.errors import one_line
from dartune.files.resources import measured
from dartune.pool.pool import write_pool
from dartune.pool.search_loop import options


@one_line
def main(task: str, source: str, limits: str, output: str, metrics: str, resources: str) -> None:
    section = params.section("pool", write_pool) | {"source": source}
    with measured(Path(resources)):
        write_pool(task, Path(limits), options(section["method"]), Path(output), Path(metrics), **section)


if __name__ == "__main__":
    main(*sys.argv[1:])
