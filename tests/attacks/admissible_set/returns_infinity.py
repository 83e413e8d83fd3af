# nonfinite: infinity for some


def priority(el, n, w):
    return float("inf") if el[0] else 1.0
