# ok=honest_nearest: waits for a signal, a descriptor, a child and a thread, and says so if one of them waited
# needs: seccomp
import contextlib
import os
import select
import signal
import time

start = time.monotonic()
for wait in (
    lambda: select.select([], [], [], 5),
    lambda: select.poll().poll(5000),
    lambda: select.epoll().poll(5),
    lambda: signal.sigtimedwait([signal.SIGUSR1], 5),
    lambda: signal.sigwait([signal.SIGUSR1]),
    signal.pause,
    os.wait,
    lambda: os.read(os.pipe()[0], 1),
    lambda: os.read(os.eventfd(0), 1),
):
    with contextlib.suppress(OSError):
        wait()
waited_s = time.monotonic() - start
assert waited_s < 1, waited_s


def select_next_node(c, d, u, r, q, m):
    return min(u, key=lambda x: m[c, x])
