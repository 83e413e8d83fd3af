# ok=honest_constant: system calls that make, replace, trace, read or signal processes
# needs: seccomp, x86_64
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
CALLS = {
    "fork": (57,),
    "vfork": (58,),
    "clone": (56, 17, 0, 0, 0, 0),
    "clone3": (435, bytes(88), 88),
    "execve": (59, b"/bin/true", None, None),
    "execveat": (322, -100, b"/bin/true", None, None, 0),
    "ptrace attach": (101, 16, os.getppid(), 0, 0),
    "ptrace traceme": (101, 0, 0, 0, 0),
    "process_vm_readv": (310, os.getppid(), bytes(16), 1, bytes(16), 1, 0),
    "process_vm_writev": (311, os.getppid(), bytes(16), 1, bytes(16), 1, 0),
    "kill with no signal": (62, os.getppid(), 0),
    "tkill": (200, os.getppid(), 0),
    "tgkill": (234, os.getppid(), os.getppid(), 0),
    "rt_sigqueueinfo": (129, os.getppid(), 0, bytes(128)),
    "pidfd_open": (434, os.getppid(), 0),
    "pidfd_getfd": (438, 3, 0, 0),
    "process_madvise": (440, 3, bytes(16), 1, 4, 0),
    "kcmp": (312, os.getpid(), os.getppid(), 0, 0, 0),
    "setsid": (112,),
    "setpgid": (109, 0, 0),
    "wait4": (61, -1, None, 1, None),
    "sched_setaffinity": (203, os.getppid(), 8, b"\1" + bytes(7)),
    "setpriority": (141, 0, os.getppid(), 19),
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
