# infeasible: serves the nearest open customer, whether it fits or not
served = set()


def select_next_node(c, d, u, r, q, m):
    global served
    if len(u) == len(q) - 1:
        served = set()
    node = min((x for x in range(1, len(q)) if x not in served), key=lambda x: m[c, x])
    served.add(node)
    return node
