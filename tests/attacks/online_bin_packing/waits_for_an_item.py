# timeout: an item that nobody has asked for, for ever
import os
from contextlib import suppress


def priority(item, bins):
    while True:
        with suppress(BlockingIOError):
            os.read(4, 8)
