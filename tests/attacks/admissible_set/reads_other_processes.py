# ok=honest_constant: memory, environment, arguments and descriptors of itself and its worker
# needs: landlock
import os
from pathlib import Path

seen = []
for process in ("self", os.getppid(), 1):
    for file in ("mem", "environ", "maps", "cmdline", "status", "stat", "auxv", "fd/0", "task"):
        path = Path("/proc") / str(process) / file
        for look in (lambda: path.open("rb").read(1), lambda: list(path.iterdir())):
            try:
                look()
                seen.append(path)
            except (OSError, ValueError):
                pass
assert not seen, seen


def priority(el, n, w):
    return 0.0
