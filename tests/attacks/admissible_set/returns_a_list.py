# runtime: a list


def priority(el, n, w):
    return list(el)
