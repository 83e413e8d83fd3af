# forbidden: goes to another folder
# needs: seccomp
import os


def select_next_node(c, d, u, r, q, m):
    os.chdir("/")
    return min(u, key=lambda x: m[c, x])
