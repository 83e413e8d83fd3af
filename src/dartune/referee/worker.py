"""The process that runs programs: one warm process per worker, which forks a child for every program.

worker_pool.py starts it as `python worker.py FOLDER PARENT [CONTROL ITEMS]`: the folder of a task, and sockets to the
process that has an online task's items (item_server.py). It reads the instances once, then one request per
program on standard input, and answers each on standard output with a report and the bytes that the child wrote, unread.
Programs and answers pass through one buffer, which is wiped after use: a child starts as a copy of this process, and
must find no trace of earlier programs. The child gets the program's text and, by the fork, its own copy of the
instances, and returns decisions (decisions.py). scorer.py checks them and computes their costs in the process that
started the worker, on instances that no child can reach.

Covered, as far as the kernel offers the layers of sandbox.py (every verdict names the missing ones): endless loops and
long C calls (the worker watches the child's CPU clock; RLIMIT_CPU is the backstop), sleeping and waiting (refused, or
ended by the wall clock where seccomp is missing), unbounded memory, floods on standard output, endless answers, forks,
threads and the processes they leave behind, signals to others, blocked signals, files, sockets, the environment,
reading other processes or programs, patched modules (only the child's own copy changes), forged answers (no more than
other decisions), early exits, crashes, recursion, atexit and __del__ (never reached), randomness (all generators are
seeded; the kernel's is refused; what depends on the clock shows in a second run).

Not covered: a program may compute anything from its arguments. A program whose author knows the seed of a held-out
split can contain that split.
"""

import fcntl
import gc
import inspect
import json
import mmap
import os
import pickle
import random
import re
import resource
import select
import signal
import struct
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from dartune.programs.decisions import MAX_BYTES, encode, encode_failure
from dartune.programs.online import BEGIN, DECISION, END, ITEM, MAX_MESSAGE, Reveal
from dartune.programs.verdict import Refused
from dartune.referee import sandbox
from dartune.referee.frames import FRAME, read_frame, read_into, write_all, write_frame
from dartune.tasks.task import Task, decisions_on, frozen, online_key, task_in

# Imported once in the worker, so that children need not: loading numpy.random alone takes longer than most programs.
PRELOADED = "numpy.random numpy.linalg math random itertools functools collections heapq operator statistics typing"
REQUEST = struct.Struct("<QdIB")  # program length, timeout_s, memory_mib, is second run
RESULT = 3  # the only descriptor of a child besides 0 to 2, which are /dev/null, and ITEMS
ITEMS = 4  # of an online task: the socket on which its items are revealed
LIMITS = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: 64, resource.RLIMIT_CORE: 0}  # apply to the worker too
# Names that NumPy 1.24 to 2.4 removed, which models learnt from older code. Of 9,037 different programs in the logs of
# EoH, two use one.
REMOVED: dict[str, Any] = {
    **dict.fromkeys(("Inf", "Infinity", "infty", "PINF"), np.inf),
    **dict.fromkeys(("NaN", "NAN"), np.nan),
    **{"NINF": -np.inf, "float_": np.float64, "int": int, "float": float, "object": object, "bool8": np.bool_},
    **{"product": np.prod, "cumproduct": np.cumprod, "alltrue": np.all, "sometrue": np.any, "round_": np.round},
    **{"trapz": np.trapezoid, "in1d": lambda a, *others, **options: np.isin(np.ravel(a), *others, **options)},
}
# What may change an array in place. Other programs get the arrays themselves, which nobody can write; a copy of the
# distances in each call would take longer than most calls.
WRITES = re.compile(
    r"[\])\w]\s*([-+*/%@&|^]|//|\*\*|<<|>>)=|\][\w \t,.*\[\]]*=(?!=)|\bout\s*=|\bflags\b"
    r"|(?<!\bnp)(?<!\bnumpy)\.(sort|partition|fill|resize|setfield|setflags|itemset|byteswap|view|data)\b"
    r"|\.(put|copyto|fill_diagonal|place|putmask|put_along_axis|shuffle|at)\b"
)
FIRST_OWN_DESCRIPTOR = 16  # the worker's own descriptors have this number or a higher one


class WorkerState:
    """What children need to run programs, set up before the sandbox closes, and the buffer for programs and answers.

    instances: in place of its items, an online task's have their number. warm_up: instances for the template's runs
    here, by default the same; an online task's are of another split and have their items. control, items: sockets to
    the process that has the items.
    """

    def __init__(
        self,
        task: Task,
        instances: list[dict[str, Any]],
        warm_up: list[dict[str, Any]] | None = None,
        control: int | None = None,
        items: int | None = None,
    ) -> None:
        self.rollout, self.instances = task.rollout, warm_up or instances
        self.control, self.items = control, items
        for instance in instances + self.instances:
            frozen(instance)  # see WRITES
        self.memory = mmap.mmap(-1, FRAME.size + MAX_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.buffer = memoryview(self.memory)  # pages use no memory until they are written
        self.is_sealed = True
        children = f"/proc/self/task/{os.getpid()}/children" if sandbox.IS_LINUX else os.devnull
        self.children_file = os.open(children, os.O_RDONLY)
        self.lends_arrays = False  # to programs: whether any that all calls share is among their arguments
        self.reveal: Reveal | None = None
        with suppress(Exception, SystemExit):  # the verdict on the template says what is wrong with it
            list(decisions_on(self.instances[:1], self.rollout, self.noting(task.template)))
        answer(self, task.template)  # lets the interpreter specialise the rollout's bytecode before the forks
        self.instances, self.reveal = instances, reveal if online_key(self.rollout) else None
        # The memory limit is on what the program adds: numpy's libraries have mapped much address space already.
        pages = Path("/proc/self/statm").read_text().split()[0] if sandbox.IS_LINUX else 0
        self.mapped = int(pages) * resource.getpagesize()

    def noting(self, template: str) -> Callable[..., Any]:
        """Return the template's function; when it is called, lends_arrays says what it was given."""
        function = load_function(template, self.rollout.FUNCTION, self.rollout.N_ARGUMENTS)

        def called(*arguments: Any) -> Any:
            """Call the template's function."""
            self.lends_arrays |= any(copy_of(argument) is not argument for argument in arguments)
            return function(*arguments)

        return called


def reveal(decisions: list[int]) -> Sequence[float]:
    """Send decisions and return the next items, in a child, where all waiting takes CPU time."""
    os.write(ITEMS, array(DECISION, decisions))
    while True:
        try:
            return array(ITEM, os.read(ITEMS, MAX_MESSAGE))
        except BlockingIOError:
            os.sched_yield()


def serve(folder: Path, sockets: list[int]) -> None:
    """Run a worker for the task in this folder: answer requests until standard input ends.

    sockets: CONTROL and ITEMS of an online task.
    """
    requests, answers, *sockets = take_over_descriptors(sockets)
    for name in PRELOADED.split():
        import_module(name)
    for name, value in REMOVED.items():
        vars(np).setdefault(name, value)
    instances, warm_up = pickle.loads(read_frame(requests) or b"")  # from the parent, before any program runs
    removed = os.open(".", os.O_RDONLY)  # a folder in which nothing can be created, nor some libraries load
    os.chdir("/")
    state = WorkerState(task_in(folder), instances, warm_up, *sockets)
    os.fchdir(removed)
    os.close(removed)
    if state.items is not None:
        os.set_blocking(state.items, False)  # which no child can undo under seccomp
    sys.path[:] = [path for path in sys.path if "-packages" not in path and path != str(Path(__file__).parents[2])]
    os.environ.clear()
    for limit, value in LIMITS.items():
        resource.setrlimit(limit, (value, value))
    missing = sandbox.enter()
    state.is_sealed = "seccomp" not in missing
    prepare_for_forks()
    write_frame(answers, json.dumps(missing).encode())
    head = bytearray(REQUEST.size)
    while read_into(requests, memoryview(head)):
        n_bytes, timeout_s, memory_mib, run = REQUEST.unpack(head)
        if not read_into(requests, state.buffer[:n_bytes]):
            return
        try:
            report, answer_bytes = run_child(state, n_bytes, run, timeout_s, memory_mib)
        except (EOFError, BrokenPipeError, ConnectionResetError):  # the process with the items has ended
            return
        write_frame(answers, json.dumps(report).encode())
        write_all(answers, FRAME.pack(answer_bytes))
        write_all(answers, state.buffer[FRAME.size : FRAME.size + answer_bytes])
        wipe(state)


def prepare_for_forks() -> None:
    """Seed all generators, then shrink and freeze the heap, because every page that a child writes to is copied."""
    random.seed(0)
    np.random.seed(0)
    # os.urandom seeds new generators. It cannot be refused: RandomState(1) calls it before using the seed 1.
    os.urandom = random._urandom = random.Random(0).randbytes  # type: ignore[attr-defined]
    gc.collect()
    if hasattr(sandbox.LIBC, "malloc_trim"):
        sandbox.LIBC.malloc_trim(0)  # returns freed memory to the kernel
    gc.freeze()  # else a child's garbage collector would touch, and so copy, the pages of all objects
    gc.set_threshold(10_000)


def wipe(state: WorkerState) -> None:
    """Zero the buffer: on Linux by returning its pages to the kernel, which is quick."""
    if sandbox.IS_LINUX:
        state.memory.madvise(mmap.MADV_DONTNEED)
    else:
        state.buffer[:] = bytes(len(state.buffer))


def take_over_descriptors(sockets: list[int]) -> list[int]:
    """Return copies of standard input and output, and of the sockets, with high numbers.

    0 to 2 become /dev/null, for the children.
    """
    numbers = [0, 1, 2, *sockets]
    requests, answers, errors, *others = (
        fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, FIRST_OWN_DESCRIPTOR) for number in numbers
    )
    for number in sockets:
        os.close(number)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    sys.stderr = os.fdopen(errors, "w", buffering=1)
    return [requests, answers, *others]


def run_child(
    state: WorkerState, n_bytes: int, run: int, timeout_s: float, memory_mib: int
) -> tuple[dict[str, Any], int]:
    """Have a child run the program in the first n_bytes of the buffer. run: 1 on a second run, else 0.

    Return the report ({"cpu_s", "is_late", "signal"}) and the length of the answer, which starts at byte FRAME.size of
    the buffer.
    """
    if state.control is not None and state.items is not None:
        about_items(state.control, BEGIN)
        with suppress(BlockingIOError):
            while os.read(state.items, 1 << 16):  # what an earlier child was sent and did not read
                pass
    read_end, write_end = os.pipe()
    child = sandbox.fork()
    if child == 0:
        run_in_child(state, n_bytes, run, write_end, timeout_s, memory_mib)
    os.close(write_end)
    wipe(state)
    answer_bytes, is_late = collect(state.buffer, read_end, child, timeout_s)
    os.close(read_end)
    status, cpu_s = kill_child(state, child)
    signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if state.control is not None and answer_bytes and state.buffer[FRAME.size] == ord("="):
        decisions = about_items(state.control, END)  # what it answered itself may be other ones
        answer_bytes = len(decisions)
        state.buffer[FRAME.size : FRAME.size + answer_bytes] = decisions
    return {"cpu_s": cpu_s, "is_late": is_late or cpu_s > timeout_s, "signal": signal_number}, answer_bytes


def about_items(control: int, request: bytes) -> bytes:
    """Return what the process with the items replies; raise EOFError where it has ended."""
    write_frame(control, request)
    if (reply := read_frame(control)) is None:
        raise EOFError("the process with the items has ended")
    return reply


def collect(buffer: memoryview, descriptor: int, child: int, timeout_s: float) -> tuple[int, bool]:
    """Read the child's answer into the buffer. Return its length, and whether the child hit the time limit.

    The answer ends after the length that it begins with; we do not wait for the process to end. The limit is on CPU
    time, so that a busy machine makes no program late. The wall clock is for programs that wait, without seccomp.
    """
    n_bytes, announced, backstop = 0, 0, time.monotonic() + 10 * timeout_s + 5
    while n_bytes < FRAME.size + announced or n_bytes < FRAME.size:
        left = timeout_s - cpu_seconds(child)
        if left <= 0 or time.monotonic() > backstop:
            return 0, True
        if not select.select([descriptor], [], [], max(left, 0.001))[0]:
            continue
        n_read = os.readv(descriptor, [buffer[n_bytes:]])
        if not n_read:
            break
        n_bytes += n_read
        announced = min(FRAME.unpack_from(buffer)[0], MAX_BYTES) if n_bytes >= FRAME.size else 0
        if n_bytes < FRAME.size + announced:
            time.sleep(0.0005)  # else a child that writes single bytes would keep this process busy
    return max(0, min(n_bytes - FRAME.size, announced)), False


def cpu_seconds(process: int) -> float:
    """Return the CPU time of a process so far, by the clock whose number clock_getcpuclockid() computes."""
    try:
        return time.clock_gettime(~process << 3 | 2) if sandbox.IS_LINUX else 0.0
    except OSError:  # it has ended
        return 0.0


def kill_child(state: WorkerState, child: int) -> tuple[int, float]:
    """Kill the child, its process group and all its descendants. Return its exit status and CPU seconds."""
    for kill in (os.killpg, os.kill):  # the group exists only once the child has called setsid
        with suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    with suppress(ChildProcessError):  # raised when no process is left
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                listed = os.pread(state.children_file, 1 << 16, 0)  # some of the orphans, the last may be cut
                for orphan in listed[: listed.rfind(b" ") + 1].split():
                    os.kill(int(orphan), signal.SIGKILL)
    return status, usage.ru_utime + usage.ru_stime


def run_in_child(state: WorkerState, n_bytes: int, run: int, write_end: int, timeout_s: float, memory_mib: int) -> None:
    """Run the program in the buffer, write its answer and exit. Never returns."""
    try:
        confine(state, write_end, timeout_s, memory_mib)
        _junk = [bytearray(size) for size in range(1, 600 * run)]  # gives objects of a second run other addresses
        write_frame(RESULT, answer(state, str(state.buffer[:n_bytes], "utf-8", "surrogatepass")))
    finally:
        os._exit(0)


def confine(state: WorkerState, write_end: int, timeout_s: float, memory_mib: int) -> None:
    """Start a new session, close all descriptors except the result pipe, set the limits, then seal the process."""
    os.setsid()
    sys.stderr = sys.__stderr__  # /dev/null: the worker's copy is closed below
    sandbox.die_with_parent()
    os.dup2(write_end, RESULT)
    if state.items is not None:
        os.dup2(state.items, ITEMS)
    os.closerange(RESULT + 1 if state.items is None else ITEMS + 1, 256)
    cpu_s, memory = int(timeout_s) + 1, state.mapped + (memory_mib << 20)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if not sandbox.seal() and state.is_sealed:
        os._exit(1)  # rather no verdict than one without a layer that was reported as present


def answer(state: WorkerState, program: str) -> bytes:
    """Run the program on all instances; return its decisions or its failure as an answer (decisions.py)."""
    try:
        function = load_function(program, state.rollout.FUNCTION, state.rollout.N_ARGUMENTS)
        if state.lends_arrays and WRITES.search(program):
            function = on_copies(function)
        return encode(decisions_on(state.instances, state.rollout, function, state.reveal))
    except Refused as refused:
        return encode_failure(refused.status, refused.reason)
    except MemoryError:
        return encode_failure("memory", "allocated more than the limit")
    except ImportError as error:
        return encode_failure("import", f"{error}; programs have Python's library and numpy")
    except BaseException as error:  # a program's failure becomes a status
        # What the sandbox refuses: most calls with EPERM, a fork with EAGAIN, a thread with a RuntimeError.
        is_refusal = isinstance(error, PermissionError | BlockingIOError) or "start new thread" in str(error)
        return encode_failure("forbidden" if is_refusal else "runtime", f"{type(error).__name__}: {error}")


def on_copies(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, given a copy of each array that others share, for each call."""

    def called(*arguments: Any) -> Any:
        """Call the function; arrays that were made for this call alone are writable, and its own already."""
        return function(*[copy_of(argument) for argument in arguments])

    return called


def copy_of(argument: Any) -> Any:
    """Return a copy of an array that cannot be written, and anything else as it is."""
    return argument.copy() if isinstance(argument, np.ndarray) and not argument.flags.writeable else argument


def load_function(program: str, name: str, n_arguments: int) -> Callable[..., Any]:
    """Run the program as a module and return its function. Raises Refused where that is missing or does not fit.

    It runs once: what it remembers, in an object of a class for one, lasts for all instances, as with LLM4AD.
    """
    namespace: dict[str, Any] = {"__name__": "program"}
    try:
        module = compile(program, "<program>", "exec")
    except (SyntaxError, ValueError, OverflowError, RecursionError) as error:
        raise Refused("syntax", str(error)) from error
    exec(module, namespace)
    function: Any = namespace.get(name)
    if not callable(function):
        raise Refused("no_program", f"no function {name}")
    code = function.__code__ if type(function) is FunctionType else None
    # Plain functions need no check by inspect, which takes a third of a millisecond.
    if code is None or code.co_argcount != n_arguments or code.co_kwonlyargcount:
        try:
            inspect.signature(function).bind(*[None] * n_arguments)
        except TypeError as error:
            raise Refused("signature", f"{name} cannot be called with {n_arguments} arguments: {error}") from error
        except ValueError:  # a function in C without a signature: the call itself will fail
            pass
    return cast(Callable[..., Any], function)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops this process
    sandbox.die_with_parent()
    if os.getppid() == int(sys.argv[2]):
        serve(Path(sys.argv[1]), [int(number) for number in sys.argv[3:]])
