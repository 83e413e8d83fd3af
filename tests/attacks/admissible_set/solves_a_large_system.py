# timeout, memory: singular values of a large matrix
import numpy as np


def priority(el, n, w):
    return np.linalg.svd(np.random.rand(1800, 1800)).S[0]
