# runtime: an integer beyond all floating point numbers


def priority(el, n, w):
    return 10**400
