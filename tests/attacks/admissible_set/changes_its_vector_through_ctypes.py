# ok=honest_constant, crash: writes into the tuple that it is given
import ctypes


def priority(el, n, w):
    zero = 0
    ctypes.c_ssize_t.from_address(id(el) + 24).value = id(zero)
    return 0.0
