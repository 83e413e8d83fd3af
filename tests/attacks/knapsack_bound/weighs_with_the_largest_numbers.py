# ok=honest_tightness, infeasible, nonfinite: weights so large that their sums would be infinite, and close all nodes
def constraint_weights(v, w, c):
    return w.sum(axis=0) / c * 2.0**1015
