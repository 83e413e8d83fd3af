# crash: leaves with status 0 before it has answered
import os


def select_next_node(c, d, u, m):
    os._exit(0)
