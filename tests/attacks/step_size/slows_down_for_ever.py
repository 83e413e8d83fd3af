# infeasible: halves its step until nothing of it is left
def next_step(step, error, previous_step, previous_error, n_rejected):
    return step / 2
