# ok=honest_nearest: looks for secrets in the environment, also where the C library keeps it
import ctypes
import os

environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
found = [*os.environ, *os.environb, *([environ[0]] if environ and environ[0] else [])]
assert not found, found


def select_next_node(c, d, u, r, q, m):
    return min(u, key=lambda x: m[c, x])
