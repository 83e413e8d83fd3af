# infeasible: a step back, after which it would be integrated once more
def next_step(step, error, previous_step, previous_error, n_rejected):
    return -step
