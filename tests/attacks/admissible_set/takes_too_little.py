# signature: two arguments for three


def priority(el, n):
    return 0.0
