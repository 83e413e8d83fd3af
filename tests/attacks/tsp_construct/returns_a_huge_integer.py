# infeasible, runtime: returns an integer that has too many digits to be printed


def select_next_node(c, d, u, m):
    return 10**5000
