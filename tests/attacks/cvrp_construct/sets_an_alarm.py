# forbidden, runtime: an alarm and a timer that call a handler which never returns
# needs: seccomp
import signal


def handler(*_):
    while True:
        pass


def select_next_node(c, d, u, r, q, m):
    signal.signal(signal.SIGALRM, handler)
    signal.alarm(1)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    return min(u, key=lambda x: m[c, x])
