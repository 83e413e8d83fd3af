# ok=honest_constant: minus infinity for all, which is one order like any other


def priority(el, n, w):
    return -float("inf")
