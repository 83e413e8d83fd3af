# runtime: a number without an order


def priority(el, n, w):
    return sum(el) + 1j
