# no_program, ok=honest_constant, runtime: the name is deleted again and the module's name is changed
__name__ = "__main__"


def priority(el, n, w):
    return 0.0


del priority
