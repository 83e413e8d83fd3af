# ok=in_order, runtime: removes all edges before it chooses
def select_next_vertex(available, degrees, adjacency):
    adjacency[:] = False
    degrees[:] = 0
    return available[0]
