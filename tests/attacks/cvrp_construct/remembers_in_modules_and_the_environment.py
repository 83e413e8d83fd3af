# ok=honest_nearest: leaves marks in numpy, in builtins and in the environment, and fails where it finds one
import builtins
import os
import sys

import numpy as np

assert not hasattr(np, "attacked") and not hasattr(builtins, "attacked") and "ATTACKED" not in os.environ
np.attacked = builtins.attacked = sys.modules["__main__"].attacked = True
os.environ["ATTACKED"] = "1"


def select_next_node(c, d, u, r, q, m):
    return min(u, key=lambda x: m[c, x])
