# ok: takes the vertex with the fewest neighbours left


def select_next_vertex(v, d, a):
    return min(v, key=lambda x: d[x])
