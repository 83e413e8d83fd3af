"""base: the base model, trained or pointed to. Usage: base.py OUTPUT METRICS RESOURCES"""

import sys
from pathlib import Path

from dartune import params
from dartune.base_model.base import write_base
from dartune.errors import one_line
from dartune.files.resources import measured


@one_line
def main(output: str, metrics: str, resources: str) -> None:
    with measured(Path(resources)):
        write_base(Path(output), Path(metrics), **params.section("base", write_base))


if __name__ == "__main__":
    main(*sys.argv[1:])
