# infeasible: chooses the same vertex again and again
def select_next_vertex(available, degrees, adjacency):
    return 0
