"""The layers of isolation that the kernel puts around a process that runs programs, as far as it offers them.

A worker calls enter() once, before it reads a program; its children inherit the restrictions. A child calls seal()
right before it runs the program. Linux on x86_64 and aarch64; elsewhere enter() reports all layers as missing.

network   a new network namespace (inside a new user namespace) without any interface that is up
landlock  read access to Python's library, numpy and the system's shared libraries only; no write access; no signals or
          abstract sockets to other processes
seccomp   only the system calls that computing needs, all others fail with EPERM: no processes, threads, sockets or
          signals, no opening for writing, no raising of limits, no randomness, which would make verdicts depend on
          luck, and no waiting, so that a limit on CPU time limits all the time that a program takes

On every Linux, beyond these layers: no new privileges, no capabilities even if root started the worker, processes die
with their parent, and the worker adopts and kills orphans.

Not covered: side channels (timing, caches), bugs of the kernel, and what the allowed calls reveal (the machine's name,
the time, the files of the libraries above, and by stat the names, sizes and times of all other files).
"""

import ctypes
import os
import platform
import signal
import struct
import sys
import sysconfig
from collections.abc import Callable
from errno import EAGAIN, EPERM
from functools import cache
from pathlib import Path

import numpy as np

LAYERS = ("network", "landlock", "seccomp")
IS_LINUX = sys.platform == "linux"
LIBC = ctypes.PyDLL(None, use_errno=True)  # PyDLL keeps the GIL, so that no other thread runs during fork

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER = 1, 38, 36
CAPABILITY_VERSION = 0x20080522
CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS = 0x10000000, 0x40000000, 0x08000000, 0x04000000


def enter() -> list[str]:
    """Confine this process and its future children. Return the layers that this machine does not offer."""
    if not IS_LINUX:
        return list(LAYERS)
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    layers: dict[str, Callable[[], bool]] = {
        "network": lambda: LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) == 0,
        "landlock": restrict_files,
        "seccomp": is_filter_offered,
    }
    missing = [name for name, apply in layers.items() if not apply()]
    LIBC.capset(struct.pack("<Ii", CAPABILITY_VERSION, 0), bytes(24))
    die_with_parent()  # last, since a change of credentials clears it
    return missing


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    if IS_LINUX:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def fork() -> int:
    """Fork without the hooks of os.fork, which make a child copy 200 pages and so take half of its 2 ms to start.

    Return the child's process id, 0 in the child. Safe in workers, which have one thread: none can hold a lock.
    """
    child = int(LIBC.fork())
    if child < 0:
        raise OSError(ctypes.get_errno(), "fork")
    return child


# ---- Landlock, from linux/landlock.h. abi: the kernel's version of it, which decides what it can restrict.

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
READ_FILE, READ_DIR = 1 << 2, 1 << 3
FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
NET_RIGHTS, SCOPES = 0b11, 0b11  # TCP bind and connect, from abi 4; abstract sockets and signals, from abi 6


def readable() -> list[Path]:
    """Return what programs may read: what Python and numpy import on demand, and nothing of this package."""
    library = Path(sysconfig.get_path("stdlib"))
    modules = [path for path in library.iterdir() if path.name not in ("site-packages", "dist-packages")]
    numpy = Path(np.__file__).parent
    system = [Path("/usr/lib"), Path("/lib"), Path("/lib64"), Path("/etc/ld.so.cache")]
    shared = Path(sys.base_prefix, "lib").glob("*.so*")
    return [path for path in (*modules, numpy, numpy.with_name("numpy.libs"), *system, *shared) if path.exists()]


def restrict_files() -> bool:
    """Let this process read only `readable()` and write nothing. Return whether the kernel offers Landlock."""
    abi = LIBC.syscall(CREATE_RULESET, None, 0, 1)
    if abi < 1:
        return False
    rights = FILE_RIGHTS[max(version for version in FILE_RIGHTS if version <= abi)]
    fields = struct.pack("<QQQ", rights, NET_RIGHTS if abi >= 4 else 0, SCOPES if abi >= 6 else 0)
    fields = fields[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = LIBC.syscall(CREATE_RULESET, fields, len(fields), 0)
    for path in readable():
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = READ_FILE | (READ_DIR if path.is_dir() else 0)
        LIBC.syscall(ADD_RULE, ruleset, 1, struct.pack("<Qi", allowed, descriptor), 0)
        os.close(descriptor)
    is_restricted: bool = LIBC.syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return is_restricted


# ---- seccomp: a BPF program over struct seccomp_data {int nr; u32 arch; u64 instruction_pointer; u64 args[6]}.

# Calls that computing needs: name -> (x86_64, aarch64), None where an architecture lacks the call.
CALLS: dict[str, tuple[int, int | None]] = {
    # memory
    **{"mmap": (9, 222), "munmap": (11, 215), "brk": (12, 214), "mprotect": (10, 226), "mremap": (25, 216)},
    **{"madvise": (28, 233)},
    # input and output on open files
    **{"read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67)},
    **{"lseek": (8, 62), "close": (3, 57)},
    # looking at files and folders
    **{"stat": (4, None), "fstat": (5, 80), "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291)},
    **{"access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439), "getdents64": (217, 61)},
    **{"readlink": (89, None), "readlinkat": (267, 78), "getcwd": (79, 17)},
    # signal handlers
    **{"rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132)},
    # identity of the process
    **{"getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "getgid": (104, 176)},
    **{"geteuid": (107, 175), "getegid": (108, 177)},
    # clocks
    **{"clock_gettime": (228, 113), "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None)},
    # resources
    **{"times": (100, 153), "getrusage": (98, 165), "getrlimit": (97, 163), "sched_yield": (24, 124)},
    **{"sched_getaffinity": (204, 123), "uname": (63, 160), "sysinfo": (99, 179)},
    # bookkeeping of threads, and exit
    **{"set_robust_list": (273, 99), "rseq": (334, 293), "exit": (60, 93), "exit_group": (231, 94)},
}
OPEN, OPENAT, FUTEX, PRLIMIT, IOCTL = (2, None), (257, 56), (202, 98), (302, 261), (16, 29)
WRITING = (
    os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | getattr(os, "O_TMPFILE", 0) & ~os.O_DIRECTORY
)
FUTEX_COMMAND, FUTEX_WAKE = 0x7F, 1  # the mask leaves out the flags for private memory and the clock
IOCTLS = (0x5401, 0x5451)  # TCGETS, which isatty() uses; FIOCLEX

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, EQUALS, AND, RETURN = 0x20, 0x15, 0x54, 0x06
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2


def instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Return one BPF instruction. if_true, if_false: how many instructions a jump skips."""
    return struct.pack("<HBBI", code, if_true, if_false, value)


def argument(number: int, *, high: bool = False) -> bytes:
    """Return the instruction that loads the low (or high) 32 bits of an argument of the call."""
    return instruction(LOAD, 16 + 8 * number + 4 * high)


def when(call: int | None, body: bytes) -> bytes:
    """Return code that runs the body for this call and skips it for others; empty where there is no such call.

    It loads the number of the call again, since bodies load other values.
    """
    return b"" if call is None else instruction(LOAD, 0) + instruction(EQUALS, call, 0, len(body) // 8) + body


def bpf() -> bytes:
    """Return the filter: allow CALLS, allow a few others depending on arguments, refuse the rest with EPERM."""
    column, architecture = ARCHITECTURES[platform.machine()]
    allow, refuse = instruction(RETURN, ALLOW), instruction(RETURN, ERRNO | EPERM)
    spin = instruction(RETURN, ERRNO | EAGAIN)  # waiting for a lock turns into trying until the CPU time is used up
    reading = instruction(AND, WRITING) + instruction(EQUALS, 0, 0, 1) + allow + refuse
    asking = argument(2) + instruction(EQUALS, 0, 0, 3) + argument(2, high=True) + instruction(EQUALS, 0, 0, 1)
    waking = argument(1) + instruction(AND, FUTEX_COMMAND) + instruction(EQUALS, FUTEX_WAKE, 0, 1)
    plain = [instruction(EQUALS, numbers[column] or 0, 0, 1) + allow for numbers in CALLS.values() if numbers[column]]
    return b"".join(
        [
            instruction(LOAD, 4) + instruction(EQUALS, architecture, 1, 0) + instruction(RETURN, KILL),
            instruction(LOAD, 0) + instruction(EQUALS, CALLS["read"][column] or 0, 0, 1) + allow,  # may be number 0
            *plain,
            when(OPEN[column], argument(1) + reading),
            when(OPENAT[column], argument(2) + reading),
            when(PRLIMIT[column], asking + allow + refuse),
            when(FUTEX[column], waking + allow + spin),
            *(when(IOCTL[column], argument(1) + instruction(EQUALS, code, 0, 1) + allow) for code in IOCTLS),
            refuse,
        ]
    )


def is_filter_offered() -> bool:
    """Return whether seal() will work, which a child tries: kernels, containers and architectures may lack seccomp."""
    if platform.machine() not in ARCHITECTURES:
        return False
    filter_program()  # cached here for all future children
    if (child := os.fork()) == 0:
        os._exit(0 if seal() else 1)
    return os.waitpid(child, 0)[1] == 0


class Filter(ctypes.Structure):
    """The kernel's struct sock_fprog: a BPF program and its number of instructions."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def seal() -> bool:
    """Restrict this process to computing, irrevocably. Return whether that worked."""
    return bool(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter_program()), 0, 0) == 0)


@cache
def filter_program() -> Filter:
    """Return the filter in the form that prctl takes. Computed once."""
    text = bpf()
    return Filter(len(text) // 8, text)
