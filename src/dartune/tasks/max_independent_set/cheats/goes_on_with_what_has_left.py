# infeasible: chooses vertices that have left the graph
import numpy as np


def select_next_vertex(available, degrees, adjacency):
    if len(available) == len(degrees):
        return int(available[0])
    return int(np.setdiff1d(np.arange(len(degrees)), available)[-1])
