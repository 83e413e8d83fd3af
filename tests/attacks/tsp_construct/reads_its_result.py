# runtime: waits for something to read on the way out
import os


def select_next_node(c, d, u, m):
    os.read(3, 1)
    return u[0]
