# infeasible: chooses a vertex that has left the graph


def select_next_vertex(v, d, a):
    left = set(range(len(d))) - {int(x) for x in v}
    return max(left) if left else v[0]
