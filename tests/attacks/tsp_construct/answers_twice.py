# infeasible: an answer with another one right behind it, of which only the announced first may count
import os
import struct

body = b"=" + (struct.pack("<cI", b"i", 50) + bytes(400)) * 8
os.write(3, struct.pack("<Q", len(body)) + body + b"!" + body)


def select_next_node(c, d, u, m):
    return u[0]
