# runtime: a word


def priority(el, n, w):
    return "high"
