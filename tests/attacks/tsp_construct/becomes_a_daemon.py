# forbidden: leaves its session and forks twice
# needs: seccomp
import contextlib
import os


def select_next_node(c, d, u, m):
    with contextlib.suppress(OSError):
        os.setsid()
    if os.fork() == 0 and os.fork() == 0:
        while True:
            pass
    return u[0]
