# nondeterministic: chooses by where its objects lie in memory
order = {}


def select_next_node(c, d, u, r, q, m):
    return max(u.tolist(), key=lambda x: hash(str(id(order.setdefault((id(m), x), [bytearray(300)])))))
