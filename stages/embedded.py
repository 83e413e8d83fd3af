"""embedded: the embedded model. Usage: embedded.py OUTPUT METRICS RESOURCES"""

import sys
from pathlib import Path

from dartune import params
from dartune.base_model.embedded import write_embedded
from dartune.errors import one_line
from dartune.files.resources import measured


@one_line
def main(output: str, metrics: str, resources: str) -> None:
    with measured(Path(resources)):
        write_embedded(Path(output), Path(metrics), **params.section("embedded", write_embedded))


if __name__ == "__main__":
    main(*sys.argv[1:])
