# runtime, crash: empties the builtins
__builtins__.clear()


def select_next_node(c, d, u, m):
    return u[0]
