# runtime: returns None once half of the cities are visited


def select_next_node(c, d, u, m):
    return u[0] if len(u) > 25 else None
