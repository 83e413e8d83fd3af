# ok: the same priority for all


def priority(el, n, w):
    return 0.0
