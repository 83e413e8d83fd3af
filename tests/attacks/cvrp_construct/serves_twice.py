# infeasible: goes back to the customer that it has just served


def select_next_node(c, d, u, r, q, m):
    return c or u[0]
