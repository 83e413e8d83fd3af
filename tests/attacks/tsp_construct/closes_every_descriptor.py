# crash: closes all descriptors before it answers
import os


def select_next_node(c, d, u, m):
    os.closerange(0, 1024)
    return u[0]
