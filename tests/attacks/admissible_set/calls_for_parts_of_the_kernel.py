# ok=honest_constant: system calls where faults of kernels have been found
# needs: seccomp, x86_64
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
CALLS = {
    "socket": (41, 2, 1, 0),
    "socket of netlink": (41, 16, 3, 0),
    "socketpair": (53, 1, 1, 0, bytes(8)),
    "io_uring_setup": (425, 8, bytes(120)),
    "bpf": (321, 0, bytes(72), 72),
    "perf_event_open": (298, bytes(112), 0, -1, -1, 0),
    "userfaultfd": (323, 1),
    "memfd_create": (319, b"attack", 0),
    "memfd_secret": (447, 0),
    "keyctl": (250, 0, -3, 1),
    "add_key": (248, b"user", b"attack", b"x", 1, -3),
    "request_key": (249, b"user", b"attack", None, -3),
    "init_module": (175, None, 0, b""),
    "kexec_load": (246, 0, 0, None, 0),
    "reboot": (169, 0, 0, 0, None),
    "syslog": (103, 10, None, 0),
    "shmget": (29, 0, 4096, 0o1666),
    "semget": (64, 0, 1, 0o1666),
    "msgget": (68, 0, 0o1666),
    "mq_open": (240, b"attack", 66, 0o600, None),
    "inotify_init": (253,),
    "fanotify_init": (300, 0, 0),
    "epoll_create": (213, 1),
    "eventfd": (290, 0, 0),
    "signalfd": (289, -1, bytes(8), 8, 0),
    "pipe": (22, bytes(8)),
    "dup": (32, 0),
    "fcntl": (72, 3, 4, 2048),
    "splice": (275, 0, None, 3, None, 1, 0),
    "sendfile": (40, 3, 0, None, 1),
    "open_by_handle_at": (304, -100, bytes(16), 0),
    "name_to_handle_at": (303, -100, b"/", bytes(16), bytes(4), 0),
    "openat2": (437, -100, b"/usr/lib", bytes(24), 24),
    "creat": (85, b"attack-creat", 0o600),
    "quotactl": (179, 0, None, 0, None),
    "swapon": (167, b"/tmp", 0),
    "sethostname": (170, b"attack", 6),
    "settimeofday": (164, bytes(16), None),
    "modify_ldt": (154, 0, None, 0),
    "ioperm": (173, 0, 1, 1),
    "mlock": (149, None, 4096),
    "mbind": (237, None, 0, 0, None, 0, 0),
    "move_pages": (279, 0, 0, None, None, None, 0),
    "pkey_alloc": (330, 0, 0),
    "remap_file_pages": (216, None, 0, 0, 0, 0),
    "nanosleep": (35, b"\x09" + bytes(15), None),
    "poll": (7, None, 0, 5000),
    "pause": (34,),
    "futex_waitv": (449, None, 0, 0, None, 0),
    "number of the x32 interface": (0x40000000 + 39,),
    "number that there is not": (9999,),
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
