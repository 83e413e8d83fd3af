# ok=honest_constant, memory: takes memory until it gets no more, then goes on as if nothing had been
hoard = []
try:
    while True:
        hoard.append(bytearray(1 << 20))
except MemoryError:
    pass


def priority(el, n, w):
    return 0.0
