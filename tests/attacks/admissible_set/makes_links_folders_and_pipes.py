# ok=honest_constant: everything but plain files, and changes to what is there
# needs: seccomp
import os

done = []
for folder in (".", "/tmp", "/dev/shm"):  # the working directory is gone, and has no name
    new = f"{folder}/attack-thing"
    for name, arguments in (
        ("symlink", ("/etc/passwd", new)),
        ("link", ("/etc/passwd", new)),
        ("mkdir", (new,)),
        ("mkfifo", (new,)),
        ("mknod", (new,)),
        ("chmod", (folder, 0o777)),
        ("chown", (folder, 0, 0)),
        ("utime", (folder,)),
        ("rename", (folder, new)),
        ("truncate", (new, 0)),
        ("setxattr", (folder, "user.attack", b"x")),
        ("rmdir", (folder,)),
        ("unlink", (new,)),
    ):
        try:
            getattr(os, name)(*arguments)
            done.append((name, arguments))
        except OSError as error:
            if not isinstance(error, PermissionError):
                done.append((name, error))
assert not done, done


def priority(el, n, w):
    return 0.0
