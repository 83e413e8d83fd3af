# ok=honest_constant: turns floating point errors into calls of its own code and warnings into errors
import warnings

import numpy as np

np.seterrcall(lambda *_: 1 / 0)
np.seterr(all="call")
warnings.simplefilter("error")


def priority(el, n, w):
    return 0.0
