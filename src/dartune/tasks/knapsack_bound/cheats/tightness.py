# ok: the honest program beside which the cheats are judged
def constraint_weights(values, weights, capacities):
    return weights.sum(axis=0) / capacities
