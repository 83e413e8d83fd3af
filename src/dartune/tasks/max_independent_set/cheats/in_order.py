# ok: the honest program beside which the cheats are judged
def select_next_vertex(available, degrees, adjacency):
    return available[0]
