# runtime: calls itself for ever


def priority(el, n, w):
    return priority(el, n, w)
