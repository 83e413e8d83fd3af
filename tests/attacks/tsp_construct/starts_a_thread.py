# forbidden: a thread that is no daemon and never ends
# needs: seccomp
import threading


def spin():
    while True:
        pass


def select_next_node(c, d, u, m):
    threading.Thread(target=spin, daemon=False).start()
    return u[0]
