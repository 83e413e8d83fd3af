"""The time and memory of a stage's last run. They differ from run to run, so DVC does not hash them: see dvc.yaml."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

from dartune.files.atomic import write_json


@contextmanager
def measured(file: Path) -> Iterator[dict[str, Any]]:
    """Write the block's wall seconds, CPU seconds (with those of child processes) and peak memory in MiB, as JSON.

    Yields a dictionary whose entries are written too. A run that resumes a killed one counts from the resumption.
    """
    start, more = time.monotonic(), dict[str, Any]()
    yield more
    usages = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    resources = {
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(sum(usage.ru_utime + usage.ru_stime for usage in usages), 1),
        "peak_mib": max(usage.ru_maxrss for usage in usages) // 1024,
    }
    write_json(file, resources | more)
