# ok=honest_constant: system calls that raise limits, change users or undo the sandbox
# needs: seccomp, x86_64
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
CALLS = {
    "setrlimit": (160, 0, b"\xff" * 16),
    "prlimit": (302, 0, 0, b"\xff" * 16, None),
    "prlimit of the worker": (302, os.getppid(), 7, bytes(16), None),
    "prctl dumpable": (157, 4, 1, 0, 0, 0),
    "prctl death signal": (157, 1, 0, 0, 0, 0),
    "prctl subreaper": (157, 36, 1, 0, 0, 0),
    "prctl seccomp": (157, 22, 0, 0, 0, 0),
    "arch_prctl": (158, 0x1002, 0),
    "seccomp": (317, 0, 0, None),
    "landlock_create_ruleset": (444, None, 0, 1),
    "landlock_restrict_self": (446, 3, 0),
    "unshare": (272, 0x10000000),
    "setns": (308, 3, 0),
    "chroot": (161, b"/tmp"),
    "pivot_root": (155, b".", b"."),
    "mount": (165, b"none", b"/tmp", b"tmpfs", 0, None),
    "umount": (166, b"/tmp", 0),
    "setuid": (105, 0),
    "setresuid": (117, 0, 0, 0),
    "setgroups": (116, 0, None),
    "capset": (126, b"\x22\x05\x08\x20" + bytes(4), bytes(24)),
    "personality": (135, 0x0040000),
    "setitimer": (38, 0, bytes(32), None),
    "timer_create": (222, 0, None, bytes(8)),
}
passed = {}
for name, (number, *arguments) in CALLS.items():
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    if (result, ctypes.get_errno()) != (-1, 1):
        passed[name] = (result, ctypes.get_errno())
assert not passed, passed


def priority(el, n, w):
    return 0.0
