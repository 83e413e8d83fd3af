# runtime, signature, ok=honest_constant: a callable object whose signature and name fail when they are read


class Program:
    @property
    def __signature__(self):
        raise BaseException("no signature")

    def __call__(self, el, n, w):
        return 0.0


priority = Program()
