"""The process that has programs run: one warm process a worker, which forks a child for every program and settles.

Started by panel.py as `python worker.py TASK PARENT`, from the same tree of code, before torch or anything else large
is in memory. It reads the instances once, then one request a program on standard input, and answers each on standard
output with the verdict. A child gets the program's text and, by the fork, its own copy of the instances, and hands
back decisions (decisions.py). The worker, which never runs a line of a program, checks them and adds up the cost on
instances that no child can reach. Frames in both directions are a length and JSON.

Covered, each by the layers of sandbox.py that the kernel offers (what is missing stands in every verdict):
endless loops and long C calls (CPU clock of the child, watched from outside; RLIMIT_CPU behind it), sleeping and
waiting (refused, or wall clock where seccomp is missing), unbounded memory, floods on standard output, answers
without end, forks, threads and what they leave behind, signals to others or blocked ones, files, sockets, the
environment, reading other processes, patched modules (the child's own copies), forged answers (they are only other
decisions), early exits, crashes, recursion, atexit and __del__ (never reached), randomness (seeded; real entropy is
found by a second run).

Not covered: a program may compute what it likes from what it is given, so a task whose instances reveal their future
to the function must hand it over piece by piece in its rule; our three tasks are offline, nothing is to come. A program
that was written by someone who knows a held-out split's seed can contain that split.
"""

import fcntl
import gc
import hashlib
import inspect
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType
from typing import IO, Any, cast

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from dartune import sandbox
from dartune.decisions import MAX_BYTES, decode, encode, encode_failure
from dartune.task import Task
from dartune.verdict import Refused, Verdict

# What programs import. Done once here: numpy.random alone, which numpy imports when it is first used, would cost every
# child more than its program does.
WARM = "numpy.random numpy.linalg math random itertools functools collections heapq operator statistics typing"
FRAME = struct.Struct("<Q")
RESULT = 3  # the only descriptor that a child has, beside three on /dev/null
LIMITS = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: 64, resource.RLIMIT_CORE: 0}  # the worker's own too
LOWEST = 16  # descriptors from here on are the worker's own


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next length-prefixed message, None at the end of the stream or when it is cut."""
    header = stream.read(FRAME.size)
    if len(header) < FRAME.size:
        return None
    body = stream.read(FRAME.unpack(header)[0])
    return body if len(body) == FRAME.unpack(header)[0] else None


def write_frame(stream: IO[bytes], body: bytes) -> None:
    stream.write(FRAME.pack(len(body)) + body)
    stream.flush()


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


class Bench:
    """A task's instances with what children need to run programs on them, made once, before the sandbox closes."""

    def __init__(self, task: Task, instances: list[dict[str, np.ndarray]]) -> None:
        self.task, self.rule, self.instances = task, task.rule, instances
        self.board = task.referee.prepare(instances)
        self.offspring = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY) if sandbox.IS_LINUX else -1
        template = compile(task.template, "<template>", "exec")
        settle(self, decode(answer(self, template)))  # the interpreter adapts to the rule here, not in every child
        # numpy's libraries have mapped much address space already: the limit is on what the program adds.
        pages = Path("/proc/self/statm").read_text().split()[0] if sandbox.IS_LINUX else 0
        self.mapped = int(pages) * resource.getpagesize()


def serve(task: str) -> None:
    """Answer requests until standard input ends."""
    requests, answers = take_over_descriptors()
    for name in WARM.split():
        import_module(name)
    bench = Bench(Task(task), unpack(read_frame(requests) or b""))
    sys.path[:] = [path for path in sys.path if "-packages" not in path and path != str(Path(__file__).parents[1])]
    os.environ.clear()
    for limit, value in LIMITS.items():
        resource.setrlimit(limit, (value, value))
    missing = sandbox.enter()
    random.seed(0)  # children start from the same state
    np.random.seed(0)
    gc.collect()
    sandbox.trim()  # every page that is left costs each fork something
    gc.freeze()  # else every child's collector would copy the pages of all objects
    gc.set_threshold(10_000)
    write_frame(answers, json.dumps(missing).encode())
    while (body := read_frame(requests)) is not None:
        verdict = judge(bench, **json.loads(body), missing=", ".join(missing))
        write_frame(answers, json.dumps(vars(verdict)).encode())


def take_over_descriptors() -> tuple[IO[bytes], IO[bytes]]:
    """Standard input, output and error move up, so that children, which close all above 3, find /dev/null in 0 to 2."""
    requests, answers, errors = (fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, LOWEST) for number in (0, 1, 2))
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    sys.stderr = os.fdopen(errors, "w", buffering=1)
    return os.fdopen(requests, "rb"), os.fdopen(answers, "wb")


def judge(bench: Bench, program: str, run: int, timeout_s: float, memory_mib: int, missing: str) -> Verdict:
    """The verdict on one program. run: 0, or 1 for a second run, whose memory lies otherwise.

    The program is compiled here, which runs nothing of it: in the child it would cost as much again in copied pages.
    """
    try:
        code = compile(program, "<program>", "exec")
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        return Verdict("syntax", " ".join(str(error).split())[:200] or type(error).__name__, missing_layers=missing)
    answered, cpu_s, is_late, signal_number = run_child(bench, code, run, timeout_s, memory_mib)
    if "landlock" in missing or "seccomp" in missing:
        empty_folder()
    try:
        if is_late:
            raise Refused("timeout", f"took {cpu_s:.1f} s of CPU time; the limit is {timeout_s:g} s")
        if not answered:
            raise Refused("crash", f"ended by signal {signal_number}" if signal_number else "ended without an answer")
        if len(answered) > MAX_BYTES:
            raise Refused("output", f"the answer is longer than {MAX_BYTES >> 20} MiB")
        return Verdict("ok", "", *settle(bench, decode(answered)), cpu_s, missing)
    except Refused as refused:
        return Verdict(refused.status, refused.reason, cpu_s=cpu_s, missing_layers=missing)


def settle(bench: Bench, decisions: list[np.ndarray]) -> tuple[float, tuple[float, ...], str]:
    """Score, costs and behaviour of decisions, by the task's referee; or Refused."""
    if len(decisions) != len(bench.instances):
        raise Refused("output", f"{len(decisions)} decisions for {len(bench.instances)} instances")
    costs, solution = bench.task.referee.settle(bench.board, decisions)
    return bench.task.score(costs), tuple(costs), hashlib.sha256(solution).hexdigest()[:16]


def run_child(
    bench: Bench, code: CodeType, run: int, timeout_s: float, memory_mib: int
) -> tuple[bytes, float, bool, int]:
    """Fork, let the child run the program, and say what came of it: (its bytes, CPU seconds, is late, signal)."""
    read_end, write_end = os.pipe()
    child = sandbox.fork()
    if child == 0:
        be_child(bench, code, run, write_end, timeout_s, memory_mib)
    os.close(write_end)
    answered, is_late = collect(read_end, child, timeout_s)
    os.close(read_end)
    status, cpu_s = end(bench, child)
    signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return answered, cpu_s, is_late or cpu_s > timeout_s, signal_number


def collect(descriptor: int, child: int, timeout_s: float) -> tuple[bytes, bool]:
    """The child's answer, as far as it came before the end of the pipe or the time limit, and whether it was that.

    The answer is complete with as many bytes as it announced: nobody waits for the end of the process. The wall clock
    only ends what waits where the kernel could not forbid it: a busy machine makes no program late.
    """
    answered, backstop = bytearray(), time.monotonic() + 10 * timeout_s + 5
    while not is_complete(answered):
        left = timeout_s - cpu_seconds(child)
        if left <= 0 or time.monotonic() > backstop:
            return b"", True
        if not select.select([descriptor], [], [], max(left, 0.001))[0]:
            continue
        piece = os.read(descriptor, 1 << 20)
        if not piece:
            break
        answered += piece
    return bytes(answered[FRAME.size :]), False


def is_complete(answered: bytearray) -> bool:
    """Whether all that was announced is there, or more than anything that would be read."""
    announced = FRAME.unpack_from(answered)[0] if len(answered) >= FRAME.size else MAX_BYTES
    return len(answered) >= FRAME.size + min(announced, MAX_BYTES + 1)


def cpu_seconds(process: int) -> float:
    """What a process has used so far, by its CPU clock, whose number is made as clock_getcpuclockid makes it."""
    try:
        return time.clock_gettime(~process << 3 | 2) if sandbox.IS_LINUX else 0.0
    except OSError:  # it has ended
        return 0.0


def end(bench: Bench, child: int) -> tuple[int, float]:
    """Kill the child, its group and whatever else descends from it. Returns its exit status and CPU seconds."""
    for kill in (os.killpg, os.kill):  # the group does not exist before the child has called setsid
        with suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    with suppress(ChildProcessError):  # raised when no process is left
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                for orphan in os.pread(bench.offspring, 1 << 16, 0).split():  # they fell to this process
                    os.kill(int(orphan), signal.SIGKILL)
    return status, usage.ru_utime + usage.ru_stime


def empty_folder() -> None:
    """Where the kernel could not forbid files: what a program left in the working directory."""
    for path in Path.cwd().iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def be_child(bench: Bench, code: CodeType, run: int, write_end: int, timeout_s: float, memory_mib: int) -> None:
    """Never returns: the child's whole life."""
    try:
        confine(bench, write_end, timeout_s, memory_mib)
        _junk = [bytearray(size) for size in range(1, 600 * run)]  # other addresses for the program's objects
        body = answer(bench, code)
        rest = memoryview(FRAME.pack(len(body)) + body)
        while rest:
            rest = rest[os.write(RESULT, rest) :]
    finally:
        os._exit(0)


def confine(bench: Bench, write_end: int, timeout_s: float, memory_mib: int) -> None:
    """Own session, only the result pipe left, limits set, then sealed."""
    os.setsid()
    sandbox.die_with_parent()
    os.dup2(write_end, RESULT)
    os.closerange(RESULT + 1, 256)
    cpu_s, memory = int(timeout_s) + 1, bench.mapped + (memory_mib << 20)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    sandbox.seal()


def answer(bench: Bench, code: CodeType) -> bytes:
    """The decisions, or the failure, as the program's process tells them."""
    try:
        function = load(code, bench.rule.FUNCTION, bench.rule.N_ARGUMENTS)
        return encode(bench.rule.decide(function, instance) for instance in bench.instances)
    except Refused as refused:
        return encode_failure(refused.status, refused.reason)
    except MemoryError:
        return encode_failure("memory", "allocated more than the limit")
    except BaseException as error:  # the one broad except: a candidate's failure becomes a status
        status = "forbidden" if is_refusal(error) else "runtime"
        return encode_failure(status, f"{type(error).__name__}: {error}")


def is_refusal(error: BaseException) -> bool:
    """Whether the sandbox is behind it. Threads come back as a RuntimeError, processes with the limit on them."""
    return isinstance(error, PermissionError | BlockingIOError) or "start new thread" in str(error)


def load(code: CodeType, name: str, n_arguments: int) -> Callable[..., Any]:
    """The program's function, after its module code has run."""
    namespace: dict[str, Any] = {"__name__": "program"}
    try:
        exec(code, namespace)
    except ImportError as error:
        raise Refused("import", f"{error}; programs have Python's library and numpy") from error
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
