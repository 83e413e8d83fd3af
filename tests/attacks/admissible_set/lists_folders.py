# ok=honest_constant: the contents of folders that are none of its business
# needs: landlock
import os

seen = []
for folder in ("/", "/etc", "/root", "/home", "/tmp", "/proc", "/sys", "/dev", "/var", ".", ".."):
    try:
        os.listdir(folder)
        seen.append(folder)
    except OSError:
        pass
assert not seen, seen


def priority(el, n, w):
    return 0.0
