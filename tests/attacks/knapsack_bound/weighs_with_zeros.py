# infeasible: weights that leave no constraint
import numpy as np


def constraint_weights(v, w, c):
    return np.zeros(len(c))
