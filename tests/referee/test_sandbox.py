"""A machine that lacks layers of the sandbox: the referee works, says what is missing, and what is left still holds.

Machines are made poorer by a filter of system calls that the referee's process, and so its workers, start under.
"""

import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
from functools import cache
from typing import Any

import pytest

from dartune.referee.sandbox import IS_LINUX, LAYERS

pytestmark = pytest.mark.skipif(not IS_LINUX, reason="layers are Linux's")

UNSHARE, PRCTL, SECCOMP = {"x86_64": (272, 157, 317), "aarch64": (97, 167, 277)}.get(platform.machine(), (0, 0, 0))
EPERM, ENOSYS = 1, 38

# Layer -> (system call, value of its first argument or None for any, errno): what a machine without the layer refuses.
ABSENCE: dict[str, list[tuple[int, int | None, int]]] = {
    "network": [(UNSHARE, None, EPERM)],
    "landlock": [(444, None, ENOSYS), (445, None, ENOSYS), (446, None, ENOSYS)],
    "seccomp": [(PRCTL, 22, EPERM), (SECCOMP, None, ENOSYS)],
}

# Judges one program after another under a limit of 0.1 s of CPU time, so that waiting ends after 6 s of the clock.
POOR_MACHINE = """
import ctypes, json, os, sys
from dartune.referee.worker_pool import WorkerPool
from dartune.referee.referee import Referee
from dartune.referee.sandbox import ALLOW, EQUALS, ERRNO, LIBC, LOAD, RETURN, Filter, argument, instruction, when
from dartune.tasks.task import Task

def refusal(call, value, errno):
    refuse = instruction(RETURN, ERRNO | errno)
    return when(call, refuse if value is None else argument(0) + instruction(EQUALS, value, 0, 1) + refuse)

refused, programs = json.load(sys.stdin)
text = b"".join(refusal(*each) for each in refused) + instruction(RETURN, ALLOW)
assert LIBC.prctl(38, 1, 0, 0, 0) == 0
assert LIBC.prctl(22, 2, ctypes.byref(Filter(len(text) // 8, text)), 0, 0) == 0

def children(process):
    return [int(child) for child in open(f"/proc/{process}/task/{process}/children").read().split()]

def files():
    return [path for folder, folders, names in os.walk(".") for path in folders + names if "attack" in path]

with Referee(Task("tsp_construct"), "train", max_slowdown=1, memory_mib=256) as referee:
    (honest,) = referee.judge([programs.pop("honest")])
    results = {}
    for name, program in programs.items():
        ((_, verdict),) = referee._pool.judge([(program, "f" * 8)], 0.1, 256)
        offspring = [child for worker in children(os.getpid()) for child in children(worker)]
        results[name] = {**vars(verdict), "offspring": offspring, "files": files()}
print(json.dumps({"honest": vars(honest), "missing": referee._pool.missing_layers, **results}))
"""

HONEST = "def select_next_node(c, d, u, m):\n    return u[0]\n"
PROGRAMS = {
    "honest": HONEST,
    # Three times twice as many: eight processes, of which seven sleep in sessions of their own; so do their copies.
    "family": """
import os, time
first = os.getpid()
for _ in range(3):
    try:
        os.fork()
    except (PermissionError, BlockingIOError):
        pass
if os.getpid() != first:
    try:
        os.setsid()
    except PermissionError:
        pass
    time.sleep(600)
"""
    + HONEST,
    "sleeper": "import time\ntime.sleep(600)\n" + HONEST,
    "loop": "while True: pass\n",
    "hoarder": "hoard = [0] * 10**10\n" + HONEST,
    "writer": "open('attack-file', 'w').close()\nimport os\nos.mkdir('attack-folder')\n" + HONEST,
    "reader": "open('/etc/passwd').read()\n" + HONEST,
    "caller": "import socket\nsocket.create_connection(('127.0.0.1', PORT), timeout=1)\n" + HONEST,
}


@cache
def judged_without(layers: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """What a machine without these layers says about PROGRAMS, and what it prints on standard error."""
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as empty:
        port = str(server.getsockname()[1])
        programs = {name: text.replace("PORT", port) for name, text in PROGRAMS.items()}
        run = subprocess.run(
            [sys.executable, "-c", POOR_MACHINE],
            input=json.dumps([[each for layer in layers for each in ABSENCE[layer]], programs]),
            capture_output=True,
            text=True,
            cwd=empty,
            env={**os.environ, "TMPDIR": empty},
            timeout=60,
        )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout), run.stderr


MACHINES: list[tuple[str, ...]] = [(), ("network",), ("landlock",), ("seccomp",), ("landlock", "seccomp"), LAYERS]
each_machine = pytest.mark.parametrize("layers", MACHINES, ids=lambda layers: "-".join(layers) or "none")


@each_machine
def test_the_layers_that_a_machine_lacks_stand_in_verdicts_and_in_one_line(layers: tuple[str, ...]) -> None:
    verdicts, said = judged_without(layers)
    assert verdicts["missing"] == list(layers)
    assert {verdicts[name]["missing_layers"] for name in PROGRAMS} == {", ".join(layers)}
    lines = said.splitlines()
    assert len(lines) == bool(layers), said
    assert all(f"{layer}: " in lines[0] for layer in layers)


@each_machine
def test_an_honest_program_scores_the_same_on_every_machine(layers: tuple[str, ...]) -> None:
    verdict, whole = judged_without(layers)[0]["honest"], judged_without(())[0]["honest"]
    assert (verdict["status"], verdict["costs"]) == ("ok", whole["costs"])


@each_machine
def test_no_machine_lets_a_program_run_for_ever_or_take_all_memory(layers: tuple[str, ...]) -> None:
    verdicts, _ = judged_without(layers)
    assert verdicts["loop"]["status"] == "timeout"
    assert verdicts["hoarder"]["status"] == "memory"


@each_machine
def test_processes_and_files_of_a_program_are_gone_on_every_machine(layers: tuple[str, ...]) -> None:
    verdicts, _ = judged_without(layers)
    for name in PROGRAMS.keys() - {"honest"}:
        assert (verdicts[name]["offspring"], verdicts[name]["files"]) == ([], []), name
    assert verdicts["family"]["costs"] == verdicts["honest"]["costs"]


@each_machine
def test_sleeping_is_refused_or_ended_by_the_clock(layers: tuple[str, ...]) -> None:
    verdicts, _ = judged_without(layers)
    assert verdicts["sleeper"]["status"] == ("timeout" if "seccomp" in layers else "forbidden")


@each_machine
def test_files_are_closed_while_seccomp_or_landlock_is_there(layers: tuple[str, ...]) -> None:
    verdicts, _ = judged_without(layers)
    # Without seccomp it finds that its working directory is gone, and so nothing can be made there.
    assert verdicts["writer"]["status"] == ("runtime" if "seccomp" in layers else "forbidden")
    assert verdicts["reader"]["status"] == ("ok" if "landlock" in layers else "forbidden")


@each_machine
def test_the_network_is_closed_while_one_layer_is_there(layers: tuple[str, ...]) -> None:
    verdict = judged_without(layers)[0]["caller"]
    if set(layers) == set(LAYERS):
        assert verdict["status"] == "ok"  # nothing is left that could refuse it
    else:
        # Without seccomp the connection ends in a network without even a loopback, or at landlock's rule.
        assert (verdict["status"], verdict["score"]) in (("forbidden", None), ("runtime", None))
