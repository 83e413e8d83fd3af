# infeasible, timeout: weights that close as few nodes as they can
import numpy as np


def constraint_weights(v, w, c):
    sum(range(10**7))
    return np.eye(len(c))[np.argmin(w.sum(axis=0) / c)]
