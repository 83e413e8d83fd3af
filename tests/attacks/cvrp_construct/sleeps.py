# forbidden: sleeps for a day
# needs: seccomp
import time


def select_next_node(c, d, u, r, q, m):
    time.sleep(86400)
