# ok=honest_min_degree, infeasible, forbidden, import, runtime, crash: writes to the graph, past numpy's flag
import ctypes


def select_next_vertex(v, d, a):
    vertex = min(v, key=lambda x: d[x])
    ctypes.memset(a.ctypes.data, 0, a.nbytes)
    return vertex
