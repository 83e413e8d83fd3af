# forbidden: posix_spawn
# needs: seccomp
import os


def select_next_node(c, d, u, m):
    os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    return u[0]
