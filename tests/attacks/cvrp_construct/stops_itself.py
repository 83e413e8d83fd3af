# forbidden: SIGSTOP to itself, so that nobody ever answers
# needs: seccomp
import os
import signal


def select_next_node(c, d, u, r, q, m):
    os.kill(os.getpid(), signal.SIGSTOP)
