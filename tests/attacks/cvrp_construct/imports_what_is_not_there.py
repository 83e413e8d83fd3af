# import: a module that there is not, asked for late


def select_next_node(c, d, u, r, q, m):
    import nowhere

    return nowhere.route(u)
