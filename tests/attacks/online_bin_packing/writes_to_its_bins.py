# ok=honest_best_fit, runtime: makes the bins that it was given roomy
def priority(item, bins):
    result = item - bins
    bins[:] = 100.0
    return result
