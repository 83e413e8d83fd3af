# forbidden: SIGKILL to the process that it came from
# needs: seccomp
import os
import signal


def select_next_node(c, d, u, r, q, m):
    os.kill(os.getppid(), signal.SIGKILL)
