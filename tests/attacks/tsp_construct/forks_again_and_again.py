# ok=honest_nearest: forks a thousand times, whatever is said to it
# needs: seccomp
import os

n_children = 0
for _ in range(1000):
    try:
        if os.fork() == 0:
            while True:
                pass
        n_children += 1
    except OSError:
        pass
assert n_children == 0, f"{n_children} children"


def select_next_node(c, d, u, m):
    return u[0]
