# crash: overwrites its heap from the place of an object on
import ctypes


def priority(el, n, w):
    ctypes.memset(id(el), 0x41, 1 << 30)
    return 0.0
