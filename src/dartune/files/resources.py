"""What a stage's last run took. Seconds differ from run to run, so they are no output of a stage: see dvc.yaml."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

from dartune.files.atomic import write_json


@contextmanager
def measured(file: Path) -> Iterator[dict[str, Any]]:
    """Write what the block took: seconds on the clock, seconds of processors with those of workers, most memory.

    What the block puts into the dictionary is written too. A run that goes on where a killed one stopped counts from
    there.
    """
    start, more = time.monotonic(), dict[str, Any]()
    yield more
    usage = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    write_json(
        file,
        {
            "seconds": round(time.monotonic() - start, 1),
            "cpu_seconds": round(sum(each.ru_utime + each.ru_stime for each in usage), 1),
            "peak_mib": max(each.ru_maxrss for each in usage) // 1024,
            **more,
        },
    )
