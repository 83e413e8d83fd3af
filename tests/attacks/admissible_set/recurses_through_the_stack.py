# crash, memory, runtime, timeout: raises the limit of recursion and overruns the stack of the C code
import sys

sys.setrecursionlimit(2**31 - 1)


class Deep:
    def __getattr__(self, name):
        return getattr(self, name + "x"[:0])


def priority(el, n, w):
    return Deep().value
