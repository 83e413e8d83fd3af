# forbidden, output, infeasible, timeout: decisions as fast as it can, without reading an item
import os


def priority(item, bins):
    while True:
        os.write(4, bytes(8))
