"""A `python` whose heavy imports are done: stage scripts start in a tenth of a second instead of six.

For tests that run stages in processes of their own, where starting them is not what is tested. A server imports torch,
TRL and the like once; `python SCRIPT ARGUMENT ...` or `python -c CODE` then forks it. The fork has the caller's
folder, environment and streams and is killed with it; its exit status or fatal signal becomes the caller's. Hashes of
texts are seeded once a server, not once a script: start another one to see what hangs on them.
"""

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMPORTS = (
    "torch trl.trainer.dpo_trainer trl.trainer.sft_trainer trl.trainer.grpo_trainer trl.trainer.rloo_trainer peft"
    " datasets accelerate transformers.models.llama.modeling_llama pyarrow.parquet pydantic jinja2 matplotlib.figure"
    " ruamel.yaml psutil dvc.cli dvc.repo dvc.commands.repro dvc.commands.experiments.run dvc.commands.status"
)
SCRIPTS = ("dvc", "dartune")
CALLER = """\
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = {{"words": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
socket.send_fds(server, [b"."], [0, 1, 2])
server.sendall(json.dumps(request).encode() + b"\\n")
answers = server.makefile()
fork = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(fork, number))
status = int(answers.readline() or -signal.SIGKILL)
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@contextmanager
def warm_python() -> Iterator[Path]:
    """Yield a folder for the front of PATH: what this interpreter's own has, but with `python` and SCRIPTS warm.

    Its `python3` is an ordinary one whose sys.executable lies there too, so that what it starts finds `python` warm.
    """
    with tempfile.TemporaryDirectory() as folder:
        prefix, root = Path(sys.prefix), Path(folder)
        (root / "bin").mkdir()
        for path in [*prefix.iterdir(), *(prefix / "bin").iterdir()]:
            if path.name not in ("bin", "python", *SCRIPTS):
                (root / path.relative_to(prefix)).symlink_to(path)
        address = str(root / "socket")
        (root / "caller.py").write_text(CALLER.format(address=address))
        for name in ("python", *SCRIPTS):
            script = "" if name == "python" else prefix / "bin" / name
            (root / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {root}/caller.py {script} "$@"\n')
            (root / "bin" / name).chmod(0o755)
        server = subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE)
        try:
            assert server.stdout and server.stdout.readline() == b"warm\n"
            yield root / "bin"
        finally:
            server.kill()
            server.wait()


def serve(address: str) -> dict[str, str]:
    """Fork for each caller. Return only in the forks, with what the caller asked for."""
    import gc
    import importlib

    for name in IMPORTS.split():
        importlib.import_module(name)
    gc.freeze()
    assert threading.active_count() == 1  # threads do not survive a fork; those of OpenBLAS and jemalloc start again
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    print("warm", flush=True)
    while True:
        caller, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return keep(caller)
        caller.close()


def keep(caller: socket.socket) -> dict[str, str]:
    """Fork once more, watch over the fork, and tell the caller how it ended. Return in the fork."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(caller, 1, 3)
    request: dict[str, str] = json.loads(caller.makefile().readline())
    if (fork := os.fork()) == 0:
        caller.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        return request
    for stream in (0, 1, 2, *streams):
        os.close(stream)
    end = os.pidfd_open(fork)
    caller.sendall(f"{fork}\n".encode())
    awaited: list[socket.socket | int] = [caller, end]
    ready, _, _ = select.select(awaited, [], [])
    if end not in ready:  # the caller is gone
        os.kill(fork, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
    caller.sendall(f"{status}\n".encode())
    os._exit(0)


def run(words: list[str], folder: str, environment: dict[str, str]) -> None:
    """Become the process that `python WORDS` would be."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    first, sys.argv = words[0], words
    if first == "-c":
        code, sys.argv = words[1], ["-c", *words[2:]]
    paths = [os.path.abspath(path) for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = ["" if first == "-c" else os.path.dirname(os.path.abspath(first)), *paths]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if first == "-c":
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    run(**serve(sys.argv[1]))  # type: ignore[arg-type]
