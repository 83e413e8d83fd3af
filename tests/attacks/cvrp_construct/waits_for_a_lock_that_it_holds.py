# timeout: a lock that nobody will ever release
# needs: seccomp
import threading


def select_next_node(c, d, u, r, q, m):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
