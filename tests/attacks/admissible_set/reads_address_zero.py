# crash: reads memory that there is not
import ctypes


def priority(el, n, w):
    return ctypes.string_at(0)[0]
