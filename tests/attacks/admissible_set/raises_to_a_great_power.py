# timeout, memory: one operation that no signal handler can interrupt


def priority(el, n, w):
    return 10**10**8
