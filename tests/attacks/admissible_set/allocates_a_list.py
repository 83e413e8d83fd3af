# memory: a list of ten billion


def priority(el, n, w):
    return [0] * 10**10
