# ok: the bin with the least room


def priority(item, bins):
    return item - bins
