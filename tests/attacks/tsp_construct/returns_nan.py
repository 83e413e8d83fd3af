# runtime: returns NaN for a city


def select_next_node(c, d, u, m):
    return float("nan")
