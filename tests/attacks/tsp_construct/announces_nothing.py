# output, crash: an answer of no bytes
import os

os.write(3, bytes(8))


def select_next_node(c, d, u, m):
    return u[0]
