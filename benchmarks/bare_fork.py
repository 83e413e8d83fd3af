"""Programs in a forked process each, and nothing else done for them: what a fork for every program costs at least.

python benchmarks/bare_fork.py TASK SPLIT CORE: a process as warm and as small as a worker of the referee, which forks
a child for each program on standard input (a JSON list) and waits for its end. The child makes its decisions and drops
them: no limits, no seal, no pipe, no costs. Prints seconds on the clock. Part of benchmarks/referee.py.
"""

import json
import os
import sys
import time
from importlib import import_module

from dartune.referee import sandbox
from dartune.referee.worker import PRELOADED, WorkerState, answer, prepare_for_forks
from dartune.tasks.task import Task


def main() -> None:
    task, split, core = Task(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    os.sched_setaffinity(0, {core})
    for name in PRELOADED.split():
        import_module(name)
    instances = task.instances(split)
    state = WorkerState(task, instances, instances)
    state.instances, state.reveal = instances, None  # an online task's with their items
    programs = json.load(sys.stdin)
    prepare_for_forks()
    start = time.perf_counter()
    for program in programs:
        child = sandbox.fork()
        if child == 0:
            answer(state, program)
            os._exit(0)
        os.waitpid(child, 0)
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
