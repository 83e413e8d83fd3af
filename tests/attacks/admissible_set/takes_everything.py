# ok=honest_constant: arguments of any number


def priority(*arguments, **names):
    return 0.0
