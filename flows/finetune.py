"""The pipeline as a Prefect flow: one task run per DVC stage.

Prefect shows the run, starts stages side by side, times them out and cancels them; what the stages are, which of them
are out of date and what they have made is DVC's to know.

    python flows/finetune.py [--workers N] [--set NAME=VALUE] [--timeout-s S] [STAGE ...]
"""

# ruff: noqa: E402 -- Prefect is imported late, see below

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from typing import Annotated, Any, NamedTuple

from leash import Leash
from server import Server

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "report/index.html"
SUMMARY = ROOT / "report/summary.txt"
GRACE_S = 2.0  # between asking a stage to end and killing it
POLL_S = 2.0  # between two looks at whether the run was cancelled


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="flows/finetune.py", description="Run the stages that are out of date.")
    parser.add_argument("targets", nargs="*", metavar="STAGE", help="with what it needs; every stage by default")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="stages side by side: 1 on one GPU")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="write to params.yaml")
    parser.add_argument("--timeout-s", type=float, metavar="S", help="the longest that one stage may take")
    return parser.parse_args()


if __name__ == "__main__":
    ARGUMENTS = arguments()
    os.chdir(ROOT)  # where Prefect looks for prefect.toml
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # leave the terminal to the stages
    # The server takes 7 s to start, Prefect 3 s to import: together 7 s.
    SERVER = None if "PREFECT_API_URL" in os.environ else Server()

import httpx
from dvc.exceptions import DvcException
from prefect import State, flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.exceptions import CancelledRun, FailedRun, ParameterTypeError
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

from dartune.mistake import Mistake
from graph import Step, metric_changes, plan, sort_lock
from overrides import adjust, places, values


def say(line: str, stage: str = "") -> None:
    """To the run's log and, where the script was started by hand, to the terminal."""
    get_run_logger().info(line)
    if __name__ == "__main__":
        print(f"{stage} | {line}" if stage else line, flush=True)


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())


RUNNING: set[Leash] = set()
STOPPED = threading.Event()
STARTING = threading.Lock()  # what is not in RUNNING when STOPPED is set never starts


@contextmanager
def leashes() -> Iterator[None]:
    """No stage outlives this block. Signals are raised in the main thread, while others wait for the stages."""
    STOPPED.clear()
    try:
        yield
    finally:
        stop()


def stop() -> None:
    with STARTING:
        STOPPED.set()
        for leash in list(RUNNING):
            leash.let_go()


def start(name: str) -> Leash | None:
    dvc = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", name]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    with STARTING:
        if STOPPED.is_set():
            return None
        leash = Leash(
            dvc,
            GRACE_S,
            env=os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        RUNNING.add(leash)
        return leash


# DVC's own lines; all others are the stage's.
DVC_SAYS = re.compile(
    r"$|> |Running stage '|Stage '|Updating lock file|Generating lock file|ERROR: failed to reproduce"
    r"|To track the changes|\tgit add |To enable auto staging|\tdvc config |Use `dvc push`"
)


def failed(name: str, lines: list[str]) -> State[Any]:
    """Says what the stage said last, unless the failure is one that only DVC knows of, a missing output for one."""
    own = [line for line in lines if not DVC_SAYS.match(line)]
    dvc = [line for line in lines if line.startswith("ERROR: ") and "failed to run: " not in line]
    return Failed(message=(dvc or own or [f"{name}: its command failed without a word"])[-1])


def done(lines: list[str]) -> State[Any]:
    if any("didn't change, skipping" in line for line in lines):
        return Completed(name="Cached", message="what it depends on came out as before")
    if any("is cached - skipping run" in line for line in lines):
        return Completed(name="Restored", message="from an earlier run on the same inputs")
    return Completed()


def stream(name: str, leash: Leash) -> list[str]:
    """All lines until every process of the stage is gone."""
    lines = []
    for line in leash.process.stdout or ():
        lines.append(line.rstrip())
        if not DVC_SAYS.match(line):
            say(line.rstrip(), name)
    return lines


@contextmanager
def deadline(leash: Leash, timeout_s: float | None) -> Iterator[threading.Event]:
    """Lets go of the stage when the time is over; the event says that it did."""
    over = threading.Event()

    def end() -> None:
        over.set()
        leash.let_go()

    timer = threading.Timer(timeout_s or threading.TIMEOUT_MAX, end)
    timer.daemon = True
    timer.start()
    try:
        yield over
    finally:
        timer.cancel()
        leash.let_go()


# Never retried: what failed was wrong or was stopped, and `make run` starts again where it ended.
@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False, retries=0)
def stage(name: str, stale: bool, timeout_s: float | None) -> State[Any]:
    """One stage through `dvc repro`, or nothing at all if it is up to date."""
    if not stale:
        return Completed(name="Cached", message="up to date")
    leash = start(name)
    if leash is None:
        return Cancelled(message="the run was stopped before it began")
    with deadline(leash, timeout_s) as over:
        lines = stream(name, leash)
    code = leash.end()
    RUNNING.discard(leash)
    if code == 0:
        return done(lines)
    if over.is_set():
        return Failed(
            name="TimedOut",
            message=f"{name}: not done after {timeout_s:g} s, stopped. Raise timeout_s if that is too few.",
        )
    return Cancelled(message="stopped with the run") if STOPPED.is_set() else failed(name, lines)


class Outcome(NamedTuple):
    stage: str
    state: State[Any]
    seconds: float


def cancelled() -> bool:
    """Whether someone cancelled the run. A server that is away for a moment stops no stage."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run.id).state
    except httpx.HTTPError:
        return False
    return state is not None and (state.is_cancelled() or state.is_cancelling())


def conduct(steps: list[Step], workers: int, timeout_s: float | None) -> list[Outcome]:
    """Runs at most `workers` stages side by side, each as soon as what it needs has ended; in order of their end."""
    futures: dict[str, PrefectFuture[Any]] = {}
    began: dict[str, float] = {}
    ends: Queue[tuple[str, float]] = Queue()
    outcomes: list[Outcome] = []

    def note_end(name: str, _: PrefectFuture[Any]) -> None:
        ends.put((name, time.monotonic()))

    while len(outcomes) < len(steps):
        over = {outcome.stage for outcome in outcomes}
        ready = [step for step in steps if step.stage not in futures and over.issuperset(step.needs)]
        for name, needs, stale in ready[: workers - len(futures) + len(outcomes)]:
            began[name] = time.monotonic()
            futures[name] = stage.submit(
                name, stale, timeout_s, return_state=False, wait_for=[futures[need] for need in needs]
            )
            futures[name].add_done_callback(partial(note_end, name))
        try:
            name, end = ends.get(timeout=POLL_S)
            futures[name].wait()  # from here on it holds its state
            outcomes.append(Outcome(name, futures[name].state, end - began[name]))
        except Empty:
            if not STOPPED.is_set() and cancelled():
                stop()
    return outcomes


def rows(outcomes: list[Outcome]) -> list[list[str]]:
    return [[outcome.stage, str(outcome.state.name), f"{outcome.seconds:.1f}"] for outcome in outcomes]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def keep(outcomes: list[Outcome]) -> None:
    """The run's artifacts. They are for looking at: whatever keeps them from being written fails no run."""
    try:
        create_markdown_artifact(markdown(["stage", "state", "seconds"], rows(outcomes)), key="stages")
        header = ["file", "metric", "last commit", "now", "difference"]
        create_markdown_artifact(markdown(header, metric_changes()), key="metrics")
        if REPORT.exists():
            create_markdown_artifact(f"[{REPORT}]({REPORT.as_uri()})", key="report")
            results = SUMMARY.read_text()  # ends with the warnings
            create_markdown_artifact(f"```\n{results}\n```", key="results")
    except Exception as error:
        get_run_logger().warning("artifacts: %s", error)


def tell(outcomes: list[Outcome]) -> None:
    width = max((len(outcome.stage) for outcome in outcomes), default=0)
    for name, state, seconds in rows(outcomes):
        say(f"{name:<{width}}  {state:<9}  {seconds:>8} s")


def verdict(outcomes: list[Outcome]) -> State[Any]:
    states = [outcome.state for outcome in outcomes]
    messages = [state.message for state in states if state.is_failed() and state.message]
    if messages:
        return Failed(message="\n".join(dict.fromkeys(messages)))
    if any(state.is_cancelled() for state in states):
        return Cancelled(message="stopped: the next run goes on from here")
    return Completed(name="Cached") if all(state.name == "Cached" for state in states) else Completed()


@flow(name="finetune", persist_result=False, retries=0)
def finetune(
    targets: list[str] | None = None,
    overrides: dict[str, Any] | None = None,
    workers: Annotated[int, Field(ge=1)] = 2,
    timeout_s: Annotated[float, Field(gt=0)] | None = None,
) -> State[Any]:
    """Runs every stage of dvc.yaml that is out of date.

    Args:
        targets: Names of stages, as `dvc stage list` shows them; run with all that they need. Empty for all stages.
        overrides: Values written to params.yaml first and left there, by dotted name: {"train.beta": 0.2}.
        workers: How many stages run side by side. Use 1 where they share one GPU.
        timeout_s: The longest that one stage may take, in seconds. Empty for no limit.
    """
    with chdir(ROOT), leashes():
        try:
            adjust(overrides or {})
            steps = plan(targets or [])
        except (Mistake, DvcException) as error:
            return Failed(message=one_line(error))
        outcomes = conduct(steps, workers, timeout_s)
        if any(step.stale for step in steps):
            sort_lock()
        tell(outcomes)
        keep(outcomes)
        return verdict(outcomes)


def parameters(given: argparse.Namespace) -> dict[str, Any]:
    """The flow's own, with misspelt names refused while the server is still on its way up."""
    overrides = values(given.set)
    places(overrides)  # a Mistake for a name that is not there
    plan(given.targets)
    return {"targets": given.targets, "overrides": overrides, "workers": given.workers, "timeout_s": given.timeout_s}


@contextmanager
def served(own: Server | None) -> Iterator[None]:
    """Within a server: one that Prefect's settings name, else our own."""
    if own is None or PREFECT_API_URL.value():
        yield
    else:
        own.wait()
        print(f"watch: {own.url}", flush=True)
        with temporary_settings({PREFECT_API_URL: f"{own.url}/api"}):
            yield


def main() -> None:
    try:
        given = parameters(ARGUMENTS)
    except (Mistake, DvcException) as error:
        sys.exit(one_line(error))
    try:
        with served(SERVER):
            finetune(**given)
    except (FailedRun, CancelledRun) as end:
        sys.exit(str(end))
    except ParameterTypeError as error:
        sys.exit(one_line(error))
    except KeyboardInterrupt:
        print("stopped: the next run goes on from here", file=sys.stderr)
        sys.exit(130)
    if SUMMARY.exists():
        print(SUMMARY.read_text().rstrip())
    if REPORT.exists():
        print(f"report: {REPORT}")


if __name__ == "__main__":
    main()
