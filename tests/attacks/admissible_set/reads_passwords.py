# forbidden: the users of this machine
from pathlib import Path


def priority(el, n, w):
    return len(Path("/etc/passwd").read_text())
