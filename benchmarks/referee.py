"""The referee's throughput beside the programs' own time, a process for every evaluation, and LLM4AD, in one run.

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
LLM4AD     seconds on the clock of its own evaluation (SecureEvaluator, told to fork, two at a time) of the first few of
           the same programs, on its own instances or as many of the same size. Only where it can be imported:
           pip install --no-deps llm4ad==1.11 (it asks for NumPy 1, and these classes do with 2). Its job shops are a
           problem of their own, with other arguments: its template on as many operations as ours has

They alternate; the table holds medians over ROUNDS with the range.
"""

import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from dartune.referee import worker_pool
from dartune.referee.referee import Referee
from dartune.referee.worker import load_function
from dartune.tasks.task import Task, decisions_on, names

ON_LLM4AD = ("admissible_set", "tsp_construct", "cvrp_construct")
LLM4AD: dict[str, tuple[str, dict[str, int]]] = {
    "admissible_set": ("admissible_set:ASPEvaluation", {}),
    "tsp_construct": ("tsp_construct:TSPEvaluation", {}),
    "cvrp_construct": ("cvrp_construct:CVRPEvaluation", {}),
    "online_bin_packing": ("online_bin_packing:OBPEvaluation", {"n_instances": 16, "n_items": 250}),
    "job_shop": ("jssp_construct:JSSPEvaluation", {"n_instance": 16, "n_jobs": 10, "n_machines": 6}),
}
N, N_LLM4AD, ROUNDS, WORKERS = 200, 40, 5, 2
CORES = worker_pool.usable_cores()


def split_of(task: str) -> str:
    return "llm4ad" if task in ON_LLM4AD else "test"


def decide(task: str, instances: list[Any], program: str) -> list[Any]:
    rollout = Task(task).rollout
    function = load_function(program, rollout.FUNCTION, rollout.N_ARGUMENTS)
    return list(decisions_on(instances, rollout, function))


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


@cache
def evaluation(task: str) -> Any:
    """LLM4AD's evaluation of a task."""
    origin, options = LLM4AD[task]
    module, _, name = origin.partition(":")
    return getattr(import_module(f"llm4ad.task.optimization.{module}"), name)(**options)


def by_llm4ad(task: str, programs: list[str]) -> float:
    """Seconds that LLM4AD takes for as many programs, reckoned from its first N_LLM4AD; nan where it has no such task.

    Its job shops have another function, so that only the row of the template has a figure for them.
    """
    if task not in LLM4AD or find_spec("llm4ad") is None:
        return float("nan")
    if task == "job_shop":
        if not programs[0].startswith(Task(task).template):
            return float("nan")
        programs = [evaluation(task).template_program] * len(programs)
    evaluator = import_module("llm4ad.base").SecureEvaluator(evaluation(task), fork_proc=True)
    start = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        scores = list(pool.map(evaluator.evaluate_program, programs[:N_LLM4AD]))
    assert all(score is not None for score in scores)
    return (time.perf_counter() - start) * len(programs) / N_LLM4AD


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
    if any(math.isnan(value) for value in values):
        return ""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def spread_of(task: str, programs: list[str]) -> list[str]:
    """The cells of a row: medians over ROUNDS with the range."""
    arms = (own, by_referee, by_forks, by_processes, by_llm4ad)
    rounds = [[arm(task, programs) for arm in arms] for _ in range(ROUNDS)]
    alone, judged, forked, separate, peer = zip(*rounds, strict=True)
    return [
        spread([1000 * seconds / N for seconds in alone], 2),
        spread([N / seconds for seconds in judged], 0),
        spread([b * WORKERS / a for a, b in zip(alone, judged, strict=True)], 2),
        spread([b / a for a, b in zip(alone, forked, strict=True)], 2),
        spread([N / seconds for seconds in separate], 0),
        spread([N / seconds for seconds in peer], 1),
        spread([b / a for a, b in zip(judged, peer, strict=True)], 1),
    ]


def main() -> None:
    worker_pool.usable_cores = lambda: CORES[:WORKERS]
    print(f"{N} programs, {ROUNDS} rounds, {WORKERS} workers: median (range)\n")
    columns = ("own ms each", "referee, per s", "wall x workers / own", "forks / own", "a process each, per s")
    print(f"| task | programs | {' | '.join(columns)} | LLM4AD, per s | referee / LLM4AD |")
    print("|" + "---|" * 9)
    for task in sys.argv[1:] or names():
        for name, programs in programs_of(task).items():
            print(f"| {' | '.join([task, name, *spread_of(task, programs)])} |", flush=True)


if __name__ == "__main__":
    main()
