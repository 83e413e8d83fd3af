"""base: the base model, copied or pointed to. Usage: base.py EMBEDDED OUTPUT"""

import sys
from pathlib import Path

from dartune import params
from dartune.base_model.base import write_base
from dartune.errors import one_line


@one_line
def main(embedded: str, output: str) -> None:
    write_base(Path(output), Path(embedded), **params.section("base", write_base))


if __name__ == "__main__":
    main(*sys.argv[1:])
