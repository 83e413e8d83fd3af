# output, crash: a header of -1 as a signed number, then of 0 bytes
import os
import struct


def select_next_node(c, d, u, m):
    os.write(3, struct.pack("<q", -1) + struct.pack("<q", 0))
    os._exit(0)
