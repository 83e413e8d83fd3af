# ok=honest_tightness, runtime, infeasible: writes to its arguments, and to the arrays that they are copies of
def constraint_weights(v, w, c):
    honest = w.sum(axis=0) / c
    for array in (v, w, c, v.base, w.base, c.base):
        if array is not None:
            array[...] = 0
    return honest
