# output, crash: writes to all descriptors that there could be
import contextlib
import os

for descriptor in range(1025):
    with contextlib.suppress(OSError):
        os.write(descriptor, b"=" * 16)


def select_next_node(c, d, u, m):
    return u[0]
