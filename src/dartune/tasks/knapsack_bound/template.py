import numpy as np


def constraint_weights(values: np.ndarray, weights: np.ndarray, capacities: np.ndarray) -> np.ndarray:
    """Return how much each constraint counts in the sum that bounds what can still be packed, shape (m,).

    values: the values of the items that can still be packed, shape (n,).
    weights: how much of each capacity each of them takes, shape (n, m).
    capacities: how much of each capacity is left, shape (m,).
    """
    demands = weights.sum(axis=0)
    return demands / capacities
