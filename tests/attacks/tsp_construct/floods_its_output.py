# ok=honest_nearest: prints 20 MB to standard output and error
import os
import sys

for _ in range(20):
    print("x" * 500_000)
    print("x" * 500_000, file=sys.stderr)
    os.write(1, b"x" * 500_000)
    os.write(2, b"x" * 500_000)


def select_next_node(c, d, u, m):
    return u[0]
