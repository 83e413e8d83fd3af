# crash: closes the way out and runs for ever
import os


def select_next_node(c, d, u, m):
    os.close(3)
    while True:
        pass
