# runtime: an exception whose message is 10 MB in a million lines


def select_next_node(c, d, u, r, q, m):
    raise ValueError("nine char\n" * 1_000_000)
