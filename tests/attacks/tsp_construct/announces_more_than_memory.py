# output, crash: a header of 2**64 - 1 bytes and nothing behind it
import os


def select_next_node(c, d, u, m):
    os.write(3, b"\xff" * 8)
    os._exit(0)
