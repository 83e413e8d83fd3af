# nondeterministic: chooses by the number of its process
import os


def select_next_node(c, d, u, r, q, m):
    return u[os.getpid() % len(u)]
