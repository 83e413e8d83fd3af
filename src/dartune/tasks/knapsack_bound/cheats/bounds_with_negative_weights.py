# infeasible: a weight below zero, by which the bound would be none and all nodes would be closed
def constraint_weights(values, weights, capacities):
    return [-1.0] * len(capacities)
