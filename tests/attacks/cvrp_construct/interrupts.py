# runtime: the exceptions that only a person's or the system's doing should raise


def select_next_node(c, d, u, r, q, m):
    raise KeyboardInterrupt
