# memory: an array of 8 GB
import numpy as np


def priority(el, n, w):
    return np.ones(10**9).sum()
