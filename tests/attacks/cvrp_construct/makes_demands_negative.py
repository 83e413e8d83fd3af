# ok=honest_nearest: makes demands negative, so that the vehicle gains what it serves


def select_next_node(c, d, u, r, q, m):
    q[1:] = -abs(q[1:])
    return min(u, key=lambda x: m[c, x])
