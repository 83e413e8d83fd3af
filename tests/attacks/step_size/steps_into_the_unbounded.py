# infeasible, nonfinite: a step that no equation can take, again and again
def next_step(step, error, previous_step, previous_error, n_rejected):
    return 1e308
