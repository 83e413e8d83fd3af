# crash, runtime: an exception that fails when it is printed


class Unspeakable(Exception):
    def __str__(self):
        raise self


def select_next_node(c, d, u, r, q, m):
    raise Unspeakable
