# ok: the honest program beside which the cheats are judged
def next_step(step, error, previous_step, previous_error, n_rejected):
    return step * (0.5 if error >= 1 else 1.5 if error < 0.1 else 1.0)
