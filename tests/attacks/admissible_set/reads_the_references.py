# forbidden: the best known values, by way of the package's own path
# needs: landlock
import sys
from pathlib import Path


def priority(el, n, w):
    folder = Path(sys.modules["dartune.tasks.task"].__file__).parent / "admissible_set"
    return len((folder / "references.json").read_text())
