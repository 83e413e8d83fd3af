import numpy as np


def select_next_node(current_node: int, depot: int, unvisited_nodes: np.ndarray, rest_capacity: int, demands: np.ndarray, distance_matrix: np.ndarray) -> int:
    """Return the next customer of the route, or the depot to end the route.

    current_node: the node where the vehicle stands.
    depot: the node where every route starts and ends.
    unvisited_nodes: the customers not yet served whose demand still fits, in ascending order.
    rest_capacity: the capacity left in the vehicle.
    demands: the demand of every node, shape (n,).
    distance_matrix: distances between all nodes, shape (n, n).
    """
    best_score = -1
    next_node = depot
    for node in unvisited_nodes:
        distance = distance_matrix[current_node][node]
        score = demands[node] / distance if distance > 0 else float("inf")
        if score > best_score:
            best_score = score
            next_node = node
    return next_node
