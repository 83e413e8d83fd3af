# ok=honest_constant: True for all, which is the number 1


def priority(el, n, w):
    return True
