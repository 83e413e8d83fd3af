# nondeterministic: the hash of a new object, which is its address


kept = []


def priority(el, n, w):
    kept.append(object())
    return hash(str(hash(kept[-1]))) % 1000
