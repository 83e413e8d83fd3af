# ok=honest_min_degree, runtime: removes the edges of its own copy and then takes the vertex with the fewest


def select_next_vertex(v, d, a):
    vertex = min(v, key=lambda x: d[x])
    a[:] = False
    d[:] = 0
    return vertex
