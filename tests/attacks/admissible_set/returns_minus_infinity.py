# nonfinite: minus infinity for all


def priority(el, n, w):
    return -float("inf")
