# forbidden: SIGKILL to every process that it may signal
# needs: landlock, seccomp
import os
import signal


def select_next_node(c, d, u, r, q, m):
    os.kill(-1, signal.SIGKILL)
