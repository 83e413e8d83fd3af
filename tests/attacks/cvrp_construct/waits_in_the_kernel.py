# ok=honest_nearest, timeout, forbidden: calls that make the kernel wait while no CPU time passes (membarrier)
# needs: seccomp, x86_64
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
for _ in range(500):
    libc.syscall(324, 1, 0, 0)


def select_next_node(c, d, u, r, q, m):
    return min(u, key=lambda x: m[c, x])
