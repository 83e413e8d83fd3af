import numpy as np


def select_next_vertex(available: np.ndarray, degrees: np.ndarray, adjacency: np.ndarray) -> int:
    """Return the vertex that enters the set.

    available: the vertices that are left, in ascending order.
    degrees: for every vertex of the graph, how many of those that are left are its neighbours, shape (n,).
    adjacency: whether two vertices are joined, True or False, shape (n, n).
    """
    return available[0]
