"""The process that has programs run: one warm process a worker, which forks a child for every program.

Started by panel.py as `python worker.py TASK PARENT`, from the same tree of code, with nothing large in memory. It
reads the instances once, then one request a program on standard input, and answers each on standard output with a
report and what the child wrote, unread. Programs and answers pass through one buffer, which is overwritten at once: a
child, which begins as a copy of this process, finds nothing in it of the programs before. The child gets the program's
text and, by the fork, its own copy of the instances, and hands back decisions (decisions.py). settlement.py checks and
costs them in the process that started the worker, on instances that no child can reach.

Covered, each by the layers of sandbox.py that the kernel offers (what is missing stands in every verdict):
endless loops and long C calls (CPU clock of the child, watched from outside; RLIMIT_CPU behind it), sleeping and
waiting (refused, or wall clock where seccomp is missing), unbounded memory, floods on standard output, answers
without end, forks, threads and what they leave behind, signals to others or blocked ones, files, sockets, the
environment, reading other processes or other programs, patched modules (the child's own copies), forged answers (they
are only other decisions), early exits, crashes, recursion, atexit and __del__ (never reached), randomness (seeded, also
where a program asks for none of its own; the kernel's is refused, the clock's is found by a second run).

Not covered: a program may compute what it likes from what it is given, so a task whose instances reveal their future
to the function must hand it over piece by piece in its rule; our three tasks are offline, nothing is to come. A program
that was written by someone who knows a held-out split's seed can contain that split.
"""

import fcntl
import gc
import inspect
import io
import json
import mmap
import os
import random
import resource
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, cast

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from dartune.programs.decisions import MAX_BYTES, encode, encode_failure
from dartune.programs.verdict import Refused
from dartune.referee import sandbox
from dartune.tasks.task import Task

# What programs import. Done once here: numpy.random alone, which numpy imports when it is first used, would cost every
# child more than its program does.
WARM = "numpy.random numpy.linalg math random itertools functools collections heapq operator statistics typing"
FRAME = struct.Struct("<Q")  # before the instances, an answer, and what a worker says: the length of it
REQUEST = struct.Struct("<QdIB")  # before a program: its length, timeout_s, memory_mib, whether this is its second run
RESULT = 3  # the only descriptor that a child has, beside three on /dev/null
LIMITS = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: 64, resource.RLIMIT_CORE: 0}  # the worker's own too
LARGE = 1 << 20  # bytes of the buffer that are given back rather than kept
LOWEST = 16  # descriptors from here on are the worker's own


def read_frame(descriptor: int) -> bytes | None:
    """The next length-prefixed message, None at the end of the stream or when it is cut."""
    head = bytearray(FRAME.size)
    if not read_into(descriptor, memoryview(head)):
        return None
    body = bytearray(FRAME.unpack(head)[0])
    return bytes(body) if read_into(descriptor, memoryview(body)) else None


def read_into(descriptor: int, space: memoryview) -> bool:
    """Fill the space, no byte more than that. False when the stream ends before."""
    while space:
        n_bytes = os.readv(descriptor, [space])
        if not n_bytes:
            return False
        space = space[n_bytes:]
    return True


def write_all(descriptor: int, body: bytes | memoryview) -> None:
    rest = memoryview(body)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_frame(descriptor: int, body: bytes) -> None:
    write_all(descriptor, FRAME.pack(len(body)) + body)


def pack(instances: list[dict[str, np.ndarray]]) -> bytes:
    """Instances as an .npz without pickles."""
    buffer = io.BytesIO()
    arrays = {f"{i}/{key}": value for i, instance in enumerate(instances) for key, value in instance.items()}
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(body: bytes) -> list[dict[str, np.ndarray]]:
    instances: dict[int, dict[str, np.ndarray]] = {}
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        for key in arrays.files:
            number, name = key.split("/")
            instances.setdefault(int(number), {})[name] = arrays[key]
    return [instances[i] for i in sorted(instances)]


class WorkerState:
    """What children need to run programs, made once, before the sandbox closes, and the buffer."""

    def __init__(self, task: Task, instances: list[dict[str, np.ndarray]]) -> None:
        self.rollout, self.instances = task.rollout, instances
        self.memory = mmap.mmap(-1, FRAME.size + MAX_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.buffer = memoryview(self.memory)  # takes no memory before it is filled
        self.is_sealed = True
        children = f"/proc/self/task/{os.getpid()}/children" if sandbox.IS_LINUX else os.devnull
        self.offspring = os.open(children, os.O_RDONLY)
        answer(self, task.template)  # the interpreter adapts to the rule here, not in every child
        # numpy's libraries have mapped much address space already: the limit is on what the program adds.
        pages = Path("/proc/self/statm").read_text().split()[0] if sandbox.IS_LINUX else 0
        self.mapped = int(pages) * resource.getpagesize()


def serve(task: str) -> None:
    """Answer requests until standard input ends."""
    requests, answers = take_over_descriptors()
    for name in WARM.split():
        import_module(name)
    bench = WorkerState(Task(task), unpack(read_frame(requests) or b""))
    sys.path[:] = [path for path in sys.path if "-packages" not in path and path != str(Path(__file__).parents[2])]
    os.environ.clear()
    for limit, value in LIMITS.items():
        resource.setrlimit(limit, (value, value))
    missing = sandbox.enter()
    bench.is_sealed = "seccomp" not in missing
    fix_chance()
    gc.collect()
    sandbox.trim()  # every page that is left costs each fork something
    gc.freeze()  # else every child's collector would copy the pages of all objects
    gc.set_threshold(10_000)
    write_frame(answers, json.dumps(missing).encode())
    head = bytearray(REQUEST.size)
    while read_into(requests, memoryview(head)):
        n_bytes, timeout_s, memory_mib, run = REQUEST.unpack(head)
        if not read_into(requests, bench.buffer[:n_bytes]):
            return
        report, answer_bytes, n_bytes = run_child(bench, n_bytes, run, timeout_s, memory_mib)
        write_frame(answers, json.dumps(report).encode())
        write_all(answers, FRAME.pack(answer_bytes))
        write_all(answers, bench.buffer[FRAME.size : FRAME.size + answer_bytes])
        wipe(bench, n_bytes)


def fix_chance() -> None:
    """Every child starts from the same state of all generators, and of os.urandom, which seeds those without a seed.

    A refusal would hit honest programs: RandomState(1) draws a seed before it takes the one that it was given.
    """
    random.seed(0)
    np.random.seed(0)
    os.urandom = random._urandom = random.Random(0).randbytes  # type: ignore[attr-defined]


def wipe(bench: WorkerState, n_bytes: int) -> None:
    """Overwrite what was used of the buffer; much of it goes back to the kernel, which hands it out as zeros."""
    if n_bytes > LARGE and sandbox.IS_LINUX:
        bench.memory.madvise(mmap.MADV_DONTNEED)
    else:
        bench.buffer[:n_bytes] = bytes(n_bytes)


def take_over_descriptors() -> tuple[int, int]:
    """Standard input, output and error move up, so that children, which close all above 3, find /dev/null in 0 to 2."""
    requests, answers, errors = (fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, LOWEST) for number in (0, 1, 2))
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    sys.stderr = os.fdopen(errors, "w", buffering=1)
    return requests, answers


def run_child(
    bench: WorkerState, n_bytes: int, run: int, timeout_s: float, memory_mib: int
) -> tuple[dict[str, Any], int, int]:
    """Have a child run the program in the buffer.

    Returns what became of it, the length of its answer, which lies behind the first eight bytes, and what to wipe.
    """
    read_end, write_end = os.pipe()
    child = sandbox.fork()
    if child == 0:
        be_child(bench, n_bytes, run, write_end, timeout_s, memory_mib)
    os.close(write_end)
    wipe(bench, n_bytes)
    answer_bytes, n_bytes, is_late = collect(bench.buffer, read_end, child, timeout_s)
    os.close(read_end)
    status, cpu_s = end(bench, child)
    signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {"cpu_s": cpu_s, "is_late": is_late or cpu_s > timeout_s, "signal": signal_number}, answer_bytes, n_bytes


def collect(buffer: memoryview, descriptor: int, child: int, timeout_s: float) -> tuple[int, int, bool]:
    """Length of the child's answer, of all that it wrote, and whether the limit came before the answer's end.

    The answer is complete with as many bytes as it announced: nobody waits for the end of the process, and what follows
    does not count. The wall clock only ends what waits where the kernel could not forbid it: a busy machine makes no
    program late.
    """
    n_bytes, backstop = 0, time.monotonic() + 10 * timeout_s + 5
    announced = 0
    while n_bytes < FRAME.size + announced or n_bytes < FRAME.size:
        left = timeout_s - cpu_seconds(child)
        if left <= 0 or time.monotonic() > backstop:
            return 0, n_bytes, True
        if not select.select([descriptor], [], [], max(left, 0.001))[0]:
            continue
        n_read = os.readv(descriptor, [buffer[n_bytes:]])
        if not n_read:
            break
        n_bytes += n_read
        announced = min(FRAME.unpack_from(buffer)[0], MAX_BYTES) if n_bytes >= FRAME.size else 0
        if n_bytes < FRAME.size + announced:
            time.sleep(0.0005)  # else a child that hands out single bytes would keep this process as busy as itself
    return max(0, min(n_bytes - FRAME.size, announced)), n_bytes, False


def cpu_seconds(process: int) -> float:
    """What a process has used so far, by its CPU clock, whose number is made as clock_getcpuclockid makes it."""
    try:
        return time.clock_gettime(~process << 3 | 2) if sandbox.IS_LINUX else 0.0
    except OSError:  # it has ended
        return 0.0


def end(bench: WorkerState, child: int) -> tuple[int, float]:
    """Kill the child, its group and whatever else descends from it. Returns its exit status and CPU seconds."""
    for kill in (os.killpg, os.kill):  # the group does not exist before the child has called setsid
        with suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    with suppress(ChildProcessError):  # raised when no process is left
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                for orphan in orphans(bench):
                    os.kill(orphan, signal.SIGKILL)
    return status, usage.ru_utime + usage.ru_stime


def orphans(bench: WorkerState) -> list[int]:
    """Processes that fell to this one: those that the child left behind. Some of them, when they are very many."""
    listed = os.pread(bench.offspring, 1 << 16, 0)
    return [int(orphan) for orphan in listed[: listed.rfind(b" ") + 1].split()]


def be_child(bench: WorkerState, n_bytes: int, run: int, write_end: int, timeout_s: float, memory_mib: int) -> None:
    """Never returns: the child's whole life."""
    try:
        confine(bench, write_end, timeout_s, memory_mib)
        _junk = [bytearray(size) for size in range(1, 600 * run)]  # other addresses for the program's objects
        write_frame(RESULT, answer(bench, str(bench.buffer[:n_bytes], "utf-8", "surrogatepass")))
    finally:
        os._exit(0)


def confine(bench: WorkerState, write_end: int, timeout_s: float, memory_mib: int) -> None:
    """Own session, only the result pipe left, limits set, then sealed."""
    os.setsid()
    sys.stderr = sys.__stderr__  # on /dev/null; the worker's own is closed here
    sandbox.die_with_parent()
    os.dup2(write_end, RESULT)
    os.closerange(RESULT + 1, 256)
    cpu_s, memory = int(timeout_s) + 1, bench.mapped + (memory_mib << 20)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if not sandbox.seal() and bench.is_sealed:
        os._exit(1)  # rather no verdict than one without the layer that was promised


def answer(bench: WorkerState, program: str) -> bytes:
    """The decisions, or the failure, as the program's process tells them."""
    try:
        function = load(program, bench.rollout.FUNCTION, bench.rollout.N_ARGUMENTS)
        return encode(bench.rollout.decide(function, instance) for instance in bench.instances)
    except Refused as refused:
        return encode_failure(refused.status, refused.reason)
    except MemoryError:
        return encode_failure("memory", "allocated more than the limit")
    except ImportError as error:
        return encode_failure("import", f"{error}; programs have Python's library and numpy")
    except BaseException as error:  # the one broad except: a candidate's failure becomes a status
        status = "forbidden" if is_refusal(error) else "runtime"
        return encode_failure(status, f"{type(error).__name__}: {error}")


def is_refusal(error: BaseException) -> bool:
    """Whether the sandbox is behind it. Threads come back as a RuntimeError, processes with the limit on them."""
    return isinstance(error, PermissionError | BlockingIOError) or "start new thread" in str(error)


def load(program: str, name: str, n_arguments: int) -> Callable[..., Any]:
    """The program's function, after its module code has run."""
    namespace: dict[str, Any] = {"__name__": "program"}
    try:
        code = compile(program, "<program>", "exec")
    except (SyntaxError, ValueError, OverflowError, RecursionError) as error:
        raise Refused("syntax", str(error)) from error
    exec(code, namespace)
    function: Any = namespace.get(name)
    if not callable(function):
        raise Refused("no_program", f"no function {name}")
    if not (type(function) is FunctionType and is_plain(function.__code__, n_arguments)):
        check_signature(function, name, n_arguments)
    return cast(Callable[..., Any], function)


def is_plain(code: CodeType, n_arguments: int) -> bool:
    """Whether a function takes just these arguments by position: seen at once, where inspect takes a third of a ms."""
    return code.co_argcount == n_arguments and code.co_kwonlyargcount == 0


def check_signature(function: Callable[..., Any], name: str, n_arguments: int) -> None:
    try:
        inspect.signature(function).bind(*[None] * n_arguments)
    except TypeError as error:
        raise Refused("signature", f"{name} cannot be called with {n_arguments} arguments: {error}") from error
    except ValueError:  # a function written in C: it will say so itself
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started us, which stops us
    sandbox.die_with_parent()
    if os.getppid() == int(sys.argv[2]):
        serve(sys.argv[1])
