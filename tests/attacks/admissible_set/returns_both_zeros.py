# ok=honest_constant: 0.0 and -0.0 in turns, which are equal


def priority(el, n, w):
    return -0.0 if sum(el) % 2 else 0.0
