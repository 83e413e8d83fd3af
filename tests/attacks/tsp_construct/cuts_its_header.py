# output, crash: three bytes of a header
import os


def select_next_node(c, d, u, m):
    os.write(3, b"\x01\x02\x03")
    os._exit(0)
