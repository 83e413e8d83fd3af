# output: announces 1 GB and writes it
import os
import struct

os.write(3, struct.pack("<Q", 1 << 30))
block = bytes(1 << 20)
for _ in range(1 << 10):
    os.write(3, block)


def select_next_node(c, d, u, m):
    return u[0]
