# crash: ends by os.abort
import os


def select_next_node(c, d, u, m):
    os.abort()
