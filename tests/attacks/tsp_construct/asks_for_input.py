# runtime: waits for a line on standard input


def select_next_node(c, d, u, m):
    return int(input())
