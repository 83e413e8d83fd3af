# ok: goes to the nearest customer that fits


def select_next_node(c, d, u, r, q, m):
    return min(u, key=lambda x: m[c, x])
