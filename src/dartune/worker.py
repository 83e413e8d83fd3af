"""The process that runs programs: one warm process a worker, which forks a child for every program.

Started by referee.py as `python -I worker.py TASK`, from the same tree of code. It reads the instances once, then one
request a program on standard input, and answers each on standard output: a header of JSON and what the child wrote,
unread. The child has its own session and empty folder, no descriptor but its result pipe, no environment, and limits
on CPU time, memory, files and output. It returns decisions as JSON; what they are worth is decided by the referee.

Covered: endless loops, unbounded memory, forks that stay behind in the child's group, floods on standard output,
sys.exit, os._exit, forged results of other programs. Not covered yet: system calls are not filtered, so a program
can read what the user can read, open sockets, or leave its process group.
"""

import inspect
import io
import json
import os
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
from typing import IO, Any, cast

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # -I leaves out PYTHONPATH

from dartune.verdict import Refused

# What programs import. Done once here: numpy.random alone, which numpy imports when it is first used, would cost every
# child more than its program does.
for name in (
    "numpy.random",
    "numpy.linalg",
    "math",
    "random",
    "itertools",
    "functools",
    "collections",
    "heapq",
    "typing",
):
    import_module(name)

MAX_ANSWER_BYTES = 16 << 20
FRAME = struct.Struct("<Q")


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


def serve(task: str) -> None:
    """Answer requests until standard input ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    rule = import_module(f"dartune.tasks.{task}.rule")
    instances = unpack(read_frame(requests) or b"")
    while (body := read_frame(requests)) is not None:
        header, answer = run_child(rule, instances, **json.loads(body))
        write_frame(answers, json.dumps(header).encode())
        write_frame(answers, answer)


def run_child(
    rule: Any, instances: list[dict[str, np.ndarray]], program: str, timeout_s: float, memory_mib: int
) -> tuple[dict[str, Any], bytes]:
    """Fork, let the child run the program, and say how it ended: {"cpu_s", "is_late", "signal"} and its bytes."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        be_child(rule, instances, program, write_end, timeout_s, memory_mib)
    os.close(write_end)
    answer, is_late = collect(read_end, time.monotonic() + 10 * timeout_s + 5)
    kill_group(pid)
    _, status, usage = os.wait4(pid, 0)
    cpu_s = usage.ru_utime + usage.ru_stime
    return {
        "cpu_s": cpu_s,
        "is_late": is_late or cpu_s > timeout_s,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
    }, answer


def collect(descriptor: int, deadline: float) -> tuple[bytes, bool]:
    """What arrives until the end of the pipe, the byte limit or the deadline, and whether that was the deadline."""
    answer = bytearray()
    with os.fdopen(descriptor, "rb", 0) as pipe:
        while len(answer) <= MAX_ANSWER_BYTES:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                return bytes(answer), True
            piece = pipe.read(1 << 20)
            if not piece:
                break
            answer += piece
    return bytes(answer), False


def kill_group(pid: int) -> None:
    """The child is dead or past its end: kill it and whatever it left in its group."""
    for kill in (os.killpg, os.kill):  # the group does not exist before the child has called setsid
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def be_child(
    rule: Any,
    instances: list[dict[str, np.ndarray]],
    program: str,
    write_end: int,
    timeout_s: float,
    memory_mib: int,
) -> None:
    """Never returns: the child's whole life."""
    try:
        confine(write_end, timeout_s, memory_mib)
        answer = json.dumps(decisions(rule, instances, program)).encode()
        with os.fdopen(3, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


def confine(write_end: int, timeout_s: float, memory_mib: int) -> None:
    """Own session, only descriptor 3 left, nothing in the environment, limits set."""
    os.setsid()
    os.dup2(write_end, 3)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(4, 1024)
    os.environ.clear()
    # numpy's libraries have mapped much address space already: the limit is on what the program adds.
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    cpu_s = int(timeout_s) + 1
    limits = {
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_AS: mapped + (memory_mib << 20),
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def decisions(rule: Any, instances: list[dict[str, np.ndarray]], program: str) -> dict[str, Any]:
    """{"decisions": one per instance} or {"status", "reason"}: what the program's process says of itself."""
    try:
        function = load(program, rule.FUNCTION, rule.N_ARGUMENTS)
        np.random.seed(0)
        return {"decisions": [rule.decide(function, instance) for instance in instances]}
    except Refused as refused:
        return {"status": refused.status, "reason": refused.reason}
    except MemoryError:
        return {"status": "memory", "reason": "allocated more than the limit"}
    except BaseException as error:  # the one broad except: a candidate's failure becomes a status
        return {"status": "runtime", "reason": f"{type(error).__name__}: {error}"[:200]}


def load(program: str, name: str, n_arguments: int) -> Callable[..., Any]:
    """The program's function, after its module code has run."""
    namespace: dict[str, Any] = {"__name__": "program"}
    try:
        exec(compile(program, "<program>", "exec"), namespace)
    except ImportError as error:
        raise Refused("import", str(error)) from error
    except SyntaxError as error:
        raise Refused("syntax", str(error)) from error
    function: Any = namespace.get(name)
    if not callable(function):
        raise Refused("no_program", f"no function {name}")
    try:
        inspect.signature(function).bind(*[None] * n_arguments)
    except TypeError as error:
        raise Refused("signature", f"{name} cannot be called with {n_arguments} arguments: {error}") from error
    return cast(Callable[..., Any], function)


if __name__ == "__main__":
    serve(sys.argv[1])
