# memory: small pieces, kept for ever, without the collector
import gc

gc.disable()


class Leak:
    def __init__(self, before):
        self.me, self.before, self.body = self, before, bytearray(1 << 16)


def priority(el, n, w):
    leak = None
    while True:
        leak = Leak(leak)
