"""The referee's throughput beside the programs' own time and beside a process for every evaluation, in one run.

`make bench-referee`, or of some tasks: python benchmarks/referee.py job_shop. Per task, on LLM4AD's instances or, where
there are none or they are large, on test instances, N programs of the grammar, if there is one, and N copies of the
template:

own        CPU seconds of the same programs called directly, without any isolation, half of them in each of two
           processes side by side: what no referee can be faster than
referee    seconds on the clock with two workers, nothing remembered from before
processes  seconds on the clock with a new process forked for every evaluation and its result sent through a queue, two
           at a time: what most evaluators do
forks      seconds on the clock with a process forked for every program and nothing else, in two processes side by side
           (bare_fork.py), added up: what no referee can be faster than that gives each program a process of its own

They alternate; the table holds medians over ROUNDS with the range.
"""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from dartune.referee import worker_pool
from dartune.referee.referee import Referee
from dartune.referee.worker import load_function
from dartune.tasks.task import Task, names

ON_LLM4AD = ("admissible_set", "tsp_construct", "cvrp_construct")
N, ROUNDS, WORKERS = 200, 5, 2
CORES = worker_pool.usable_cores()


def split_of(task: str) -> str:
    return "llm4ad" if task in ON_LLM4AD else "test"


def decide(task: str, instances: list[Any], program: str) -> list[Any]:
    rollout = Task(task).rollout
    function = load_function(program, rollout.FUNCTION, rollout.N_ARGUMENTS)
    return [rollout.run(function, instance) for instance in instances]


def half(task: str, programs: list[str], queue: "multiprocessing.SimpleQueue[float]") -> None:
    instances = Task(task).instances(split_of(task))
    decide(task, instances, programs[0])
    start = time.process_time()
    for program in programs:
        decide(task, instances, program)
    queue.put(time.process_time() - start)


def own(task: str, programs: list[str]) -> float:
    """CPU seconds of all programs, called directly in two processes at once."""
    queue: multiprocessing.SimpleQueue[float] = multiprocessing.SimpleQueue()
    processes = [multiprocessing.Process(target=half, args=(task, programs[i::2], queue)) for i in range(2)]
    for process in processes:
        process.start()
    seconds = queue.get() + queue.get()
    for process in processes:
        process.join()
    return seconds


def by_forks(task: str, programs: list[str]) -> float:
    """Seconds of two bare forking processes at once, added up."""
    script = str(Path(__file__).with_name("bare_fork.py"))
    settings = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}  # as workers have them
    processes = [
        subprocess.Popen(
            [sys.executable, script, task, split_of(task), str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=settings,
            text=True,
        )
        for core in CORES[:WORKERS]
    ]
    for i, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(json.dumps(programs[i::WORKERS]))
        process.stdin.close()
    return sum(float(process.stdout.read()) for process in processes if process.stdout)


def by_referee(task: str, programs: list[str]) -> float:
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as empty:  # nothing is remembered here
        os.chdir(empty)
        with Referee(Task(task), split_of(task), max_slowdown=1000, memory_mib=512) as referee:
            start = time.perf_counter()
            verdicts = referee.judge(programs)
            seconds = time.perf_counter() - start
        os.chdir(home)
    assert referee.n_run == len(programs) and all(verdict.status == "ok" for verdict in verdicts)
    return seconds


def evaluate(task: str, instances: list[Any], program: str, queue: "multiprocessing.SimpleQueue[object]") -> None:
    cost = Task(task).cost
    queue.put(cost.compute_costs(cost.prepare(instances), [as_array(d) for d in decide(task, instances, program)])[0])


def as_array(decision: list[Any]) -> object:
    import numpy as np

    return np.asarray(decision)


def by_processes(task: str, programs: list[str]) -> float:
    instances = Task(task).instances(split_of(task))

    def one(program: str) -> object:
        queue: multiprocessing.SimpleQueue[object] = multiprocessing.SimpleQueue()
        process = multiprocessing.Process(target=evaluate, args=(task, instances, program, queue))
        process.start()
        costs = queue.get()
        process.join()
        return costs

    start = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, programs))
    return time.perf_counter() - start


def programs_of(task: str) -> dict[str, list[str]]:
    """Different programs of the grammar, and copies of the template that differ in a constant that nobody reads."""
    copies = {"template": [f"{Task(task).template}\n\nNUMBER = {i}\n" for i in range(N)]}
    if not (Task(task).folder / "grammar.py").exists():
        return copies
    drawn: dict[str, None] = {}
    rng = Random(0)
    while len(drawn) < N:
        drawn[Task(task).grammar.draw(rng)] = None
    return {"grammar": list(drawn)} | copies


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def main() -> None:
    worker_pool.usable_cores = lambda: CORES[:WORKERS]
    print(f"{N} programs, {ROUNDS} rounds, {WORKERS} workers: median (range)\n")
    columns = ("task", "programs", "own ms each", "referee, per s", "wall x workers / own", "forks / own")
    print(f"| {' | '.join(columns)} | a process each, per s |")
    print("|---|---|---|---|---|---|---|")
    for task in sys.argv[1:] or names():
        for name, programs in programs_of(task).items():
            rounds = [
                (
                    own(task, programs),
                    by_referee(task, programs),
                    by_forks(task, programs),
                    by_processes(task, programs),
                )
                for _ in range(ROUNDS)
            ]
            print(
                f"| {task} | {name} | {spread([1000 * a / N for a, _, _, _ in rounds], 2)} "
                f"| {spread([N / b for _, b, _, _ in rounds], 0)} "
                f"| {spread([b * WORKERS / a for a, b, _, _ in rounds], 2)} "
                f"| {spread([c / a for a, _, c, _ in rounds], 2)} "
                f"| {spread([N / d for _, _, _, d in rounds], 0)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
