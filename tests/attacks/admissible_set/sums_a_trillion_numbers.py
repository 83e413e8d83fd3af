# timeout: one call of C code that takes hours
import signal

signal.signal(signal.SIGXCPU, signal.SIG_IGN)


def priority(el, n, w):
    return sum(range(10**12))
