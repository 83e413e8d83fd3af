# ok=honest_constant: a class whose metaclass answers calls with numbers


class Meta(type):
    def __call__(cls, el, n, w):
        return 0.0

    def __eq__(cls, other):
        return True

    def __hash__(cls):
        return 0


class priority(metaclass=Meta):
    pass
