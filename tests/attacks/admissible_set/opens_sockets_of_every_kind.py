# ok=honest_constant: sockets of every family and type, which fail one by one
# needs: seccomp
import contextlib
import socket

opened = []
for family in range(46):
    for kind in range(1, 11):
        with contextlib.suppress(OSError):
            opened.append(socket.socket(family, kind))
with contextlib.suppress(OSError):
    opened.append(socket.socketpair())
assert not opened, opened


def priority(el, n, w):
    return 0.0
