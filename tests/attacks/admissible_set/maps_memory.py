# memory, runtime: maps 16 GB of memory
import mmap

kept = mmap.mmap(-1, 1 << 34)


def priority(el, n, w):
    return 0.0
