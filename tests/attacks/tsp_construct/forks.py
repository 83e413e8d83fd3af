# forbidden: forks, and both answer
# needs: seccomp
import os

os.fork()


def select_next_node(c, d, u, m):
    return u[0]
