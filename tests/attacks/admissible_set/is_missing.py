# no_program: the function has another name


def priorities(el, n, w):
    return 0.0
