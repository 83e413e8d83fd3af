# infeasible: stays where it is


def select_next_node(c, d, u, m):
    return c
