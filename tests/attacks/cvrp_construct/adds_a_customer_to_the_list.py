# infeasible: writes a customer that does not fit into the list that its choice is compared with


def select_next_node(c, d, u, r, q, m):
    open_customers = [x for x in range(1, len(q)) if x not in seen or len(u) == len(q) - 1]
    if len(u) == len(q) - 1:
        seen.clear()
    u[0] = max(open_customers, key=lambda x: q[x])
    seen.add(int(u[0]))
    return u[0]


seen = set()
