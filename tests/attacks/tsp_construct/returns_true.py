# infeasible: returns True for ever, which is city 1 only once


def select_next_node(c, d, u, m):
    return True
