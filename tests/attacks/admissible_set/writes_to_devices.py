# ok=honest_constant: the devices of terminals, of memory and of the null that it has open
# needs: landlock
import contextlib
import os

written = []
for name in ("tty", "ptmx", "console", "mem", "kmsg", "fuse", "net/tun", "null", "zero", "random"):
    with contextlib.suppress(OSError):
        os.write(os.open(f"/dev/{name}", os.O_RDWR), b"x")
        written.append(name)
assert not written, written


def priority(el, n, w):
    return 0.0
