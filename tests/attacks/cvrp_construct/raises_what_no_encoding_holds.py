# runtime: an exception with half of a character in its message, which no file can hold


def select_next_node(c, d, u, r, q, m):
    raise ValueError("\ud800")
