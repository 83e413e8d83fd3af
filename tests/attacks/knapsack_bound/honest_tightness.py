# ok: counts each constraint by how much more its items take than there is


def constraint_weights(v, w, c):
    return w.sum(axis=0) / c
