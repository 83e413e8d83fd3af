# infeasible: never leaves the depot


def select_next_node(c, d, u, r, q, m):
    return d
