"""What a stage's last run took, when and where. It differs from run to run, so it is no output of DVC's."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any

from dartune.files.atomic import write_json

RESOURCES = "DARTUNE_RESOURCES"


@contextmanager
def measured(file: Path) -> Iterator[dict[str, Any]]:
    """Write the block's wall seconds, CPU seconds (with those of child processes) and peak memory in MiB, as JSON.

    With them go its end as a date, the commit that was checked out, and the machine. DVC deletes the tree in which it
    ran an experiment: a copy goes to a folder of the experiment's name in $DARTUNE_RESOURCES, where that is set.

    Yields a dictionary whose entries are written too. A run that resumes a killed one counts from the resumption.
    """
    start, more = time.monotonic(), dict[str, Any]()
    yield more
    usages = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    resources = {
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(sum(usage.ru_utime + usage.ru_stime for usage in usages), 1),
        "peak_mib": max(usage.ru_maxrss for usage in usages) // 1024,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": machine(),
    }
    write_json(file, resources | more)
    if RESOURCES in os.environ and "DVC_EXP_NAME" in os.environ:
        write_json(Path(os.environ[RESOURCES]) / os.environ["DVC_EXP_NAME"] / file, resources | more)


def commit() -> str:
    """Return the first digits of the commit that is checked out, with "+" where files were edited; "" without git."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:  # it is not installed
        return ""


def machine() -> str:
    """Return the processor, how many of its cores this process may use, and the GPU where a model ran on one."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpus = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    name = f"{cpus[0] if cpus else platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    torch = sys.modules.get("torch")  # not imported for this: it takes seconds
    return f"{name}, {torch.cuda.get_device_name()}" if torch and torch.cuda.is_available() else name
