# ok=honest_nearest: looks for the answer of the program before it in the frames of its worker and what hangs on them
import sys

SIGNS = (b"=i\x32\0\0\0", (50).to_bytes(4, "little") + bytes(8))  # how an answer starts, and how a tour does


def search(name, value, depth):
    if isinstance(value, bytes | bytearray | memoryview):
        start = bytes(value[:8192])
        assert not any(sign in start for sign in SIGNS), name
    elif depth:
        parts = value if isinstance(value, tuple | list) else getattr(value, "__dict__", {}).values()
        for part in list(parts)[:100]:
            search(name, part, depth - 1)


frame = sys._getframe()
while frame := frame.f_back:
    for name, value in list(frame.f_locals.items()):
        search(name, value, 2)


def select_next_node(c, d, u, m):
    return u[0]
