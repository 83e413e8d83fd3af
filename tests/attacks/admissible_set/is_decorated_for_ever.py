# crash, memory, runtime, timeout, signature: a decorator that wraps the function in itself


def wrapped(function):
    def around(*arguments):
        return function(*arguments)

    around.__wrapped__ = around
    return around


@wrapped
@wrapped
def priority(el, n, w, extra):
    return 0.0
