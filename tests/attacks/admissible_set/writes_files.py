# ok=honest_constant: files wherever files are usually written, opened in every way
import contextlib
import os
import tempfile

written = []
for folder in (".", "/tmp", "/dev/shm", "/var/tmp", "/run", os.path.expanduser("~")):
    path = os.path.join(folder, "attack-file")
    for flags in (os.O_CREAT | os.O_WRONLY, os.O_CREAT | os.O_RDWR, os.O_CREAT | os.O_EXCL, os.O_TMPFILE | os.O_RDWR):
        with contextlib.suppress(OSError):
            os.open(path if flags & os.O_CREAT else folder, flags, 0o600)
            written.append((path, flags))
with contextlib.suppress(OSError):
    tempfile.mkstemp()
    written.append("temporary")
assert not written, written


def priority(el, n, w):
    return 0.0
