"""The resources that a stage's last run took. They differ from run to run, so they are no outputs: see dvc.yaml."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

from dartune.files.atomic import write_json


@contextmanager
def measured(file: Path) -> Iterator[dict[str, Any]]:
    """Write what the block took: wall seconds, CPU seconds including those of workers, peak memory in MiB.

    Yields a dictionary whose entries are written too. A run that continues a killed one counts from its own start.
    """
    start, more = time.monotonic(), dict[str, Any]()
    yield more
    usages = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    write_json(
        file,
        {
            "seconds": round(time.monotonic() - start, 1),
            "cpu_seconds": round(sum(usage.ru_utime + usage.ru_stime for usage in usages), 1),
            "peak_mib": max(usage.ru_maxrss for usage in usages) // 1024,
            **more,
        },
    )
