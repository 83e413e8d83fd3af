# forbidden: SIGKILL to its process group
# needs: seccomp
import os
import signal


def select_next_node(c, d, u, r, q, m):
    os.killpg(0, signal.SIGKILL)
