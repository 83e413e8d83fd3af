"""search: base and tuned model inside searches. Usage: search.py TASK BASE TUNED OUTPUT METRICS RESOURCES"""

import sys
from pathlib import Path

from dartune import params
from dartune.errors import one_line
from dartune.evaluation.search import write_search
from dartune.files.resources import measured
from dartune.pool.search_loop import options


@one_line
def main(task: str, base: str, tuned: str, output: str, metrics: str, resources: str) -> None:
    section = params.section("search", write_search)
    inputs = (Path(base), Path(tuned), {name: options(name) for name in section["methods"]})
    with measured(Path(resources)) as more:
        more["at_equal_seconds"] = write_search(task, *inputs, Path(output), Path(metrics), **section)


if __name__ == "__main__":
    main(*sys.argv[1:])
