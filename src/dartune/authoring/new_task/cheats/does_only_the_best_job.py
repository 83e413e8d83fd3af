# infeasible: does one job again and again, the one that lowers the cost most
import numpy as np


def select_next_job(waiting, hours, weights):
    return int(np.argmax(weights / hours))
