"""The pipeline as a Prefect flow: one task run per DVC stage.

Prefect shows the run, starts stages side by side, times them out and cancels them; what the stages are, which of them
are out of date and what they have made is DVC's to know.

    python flows/finetune.py [--workers N] [--set NAME=VALUE] [--timeout-s S] [--pull] [--push] [--branch B] [STAGE ...]
"""

# ruff: noqa: E402 -- Prefect is imported late, see below

import argparse
import gc
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Annotated, Any, NamedTuple
from uuid import UUID

from server import Server

ROOT = Path(__file__).resolve().parent.parent
POLL_S = 2.0  # between two looks at whether the run was cancelled


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="flows/finetune.py", description="Run the stages that are out of date.")
    parser.add_argument("targets", nargs="*", metavar="STAGE", help="with what it needs; every stage by default")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="stages side by side: 1 on one GPU")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="write to params.yaml")
    parser.add_argument("--timeout-s", type=float, metavar="S", help="the longest that one stage may take")
    parser.add_argument("--pull", action="store_true", help="fetch what a stage needs from the DVC remote")
    parser.add_argument("--push", action="store_true", help="then send what is new to the DVC remote")
    parser.add_argument("--branch", metavar="B", help="then commit dvc.lock, metrics and plots on this branch")
    parser.add_argument("--follow", metavar="REMOTE/B", help="first bring this folder up to a remote's branch")
    return parser.parse_args()


if __name__ == "__main__":
    ARGUMENTS = arguments()
    os.chdir(ROOT)  # where Prefect looks for prefect.toml
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # leave the terminal to the stages
    # The server takes 3 s to start; meanwhile Prefect is imported and the run planned.
    SERVER = None if "PREFECT_API_URL" in os.environ else Server()
    gc.disable()  # until all is imported and planned: nothing of that is garbage

import httpx
from dvc.exceptions import DvcException
from prefect import State, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.exceptions import CancelledRun, FailedRun, ParameterTypeError
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Cancelled, Completed, Crashed, Failed
from prefect.tasks import exponential_backoff
from pydantic import Field

import artifacts
import history
import notice
from dartune.errors import UserError
from graph import Step, in_git, plan, refuse_no_remote, refuse_unknown, sort_lock
from overrides import adjusted, places, values
from processes import STOPPED, dvc, hold, leashes, outcome, stop
from workspace import Abandoned, alone, opened, taken


def say(line: str, stage: str = "") -> None:
    """To the run's log and, where the script was started by hand, to the terminal."""
    get_run_logger().info(line)
    if __name__ == "__main__":
        print(f"{stage} | {line}" if stage else line, flush=True)


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())


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


def teller(name: str) -> Callable[[str], None]:
    """What is done with each line of a stage: logged, and shown as a bar where it tells of progress."""
    progress = artifacts.Progress(name)

    def tell(line: str) -> None:
        if not DVC_SAYS.match(line):
            say(line, name)
            progress.follow(line)

    return tell


# Never retried: what failed was wrong or was stopped, and `make run` starts again where it ended.
@task(task_run_name="{step.stage}", cache_policy=NO_CACHE, persist_result=False, retries=0)
def stage(step: Step, timeout_s: float | None, pull: bool) -> State[Any]:
    """One stage through `dvc repro`, or nothing at all if it is up to date."""
    if not step.stale:
        return Completed(name="Cached", message="up to date")
    absent = [path for path in step.inside if not Path(path).exists()]
    if pull and absent and not (fetched := dvc_ends(step.stage, timeout_s, "pull", *absent)).is_completed():
        return fetched
    words = ["--pull", "--allow-missing"] if pull else []
    return dvc_ends(step.stage, timeout_s, "repro", *words, "--single-item", step.stage)


def dvc_ends(name: str, timeout_s: float | None, *words: str) -> State[Any]:
    """How a DVC command ends for the stage of this name."""
    leash = dvc(*words)
    if leash is None:
        return Cancelled(message="the run was stopped before it began")
    code, lines, is_late = outcome(leash, timeout_s, teller(name))
    if code == 0:
        return done(lines)
    if is_late:
        return Failed(
            name="TimedOut",
            message=f"{name}: not done after {timeout_s:g} s, stopped. Raise timeout_s if that is too few.",
        )
    return Cancelled(message="stopped with the run") if STOPPED.is_set() else failed(name, lines)


class Unsent(Exception):
    """What DVC said of a push that failed."""


# What a second try would meet again.
FINAL = re.compile(
    r"credential|denied|forbidden|authenti|does not exist|NoSuchBucket|InvalidAccessKey|SignatureDoesNotMatch"
    r"|config file error|not supported|requires",
    re.IGNORECASE,
)


def may_pass(_: object, __: object, state: State[Any]) -> bool:
    return not FINAL.search(state.message or "")


@task(
    name="push",
    task_run_name="push",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=3),
    retry_condition_fn=may_pass,
)
def push() -> State[Any]:
    """What is new goes to the DVC remote, run-cache included; a network that is away for a moment is tried again."""
    leash = dvc("push", "--run-cache")
    if leash is None:
        return Cancelled(message="the run was stopped before it began")
    code, lines, _ = outcome(leash, None, lambda line: say(line, "push") if line else None)
    if code and STOPPED.is_set():
        return Cancelled(message="stopped with the run")
    if code:
        said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or ["without a word"]
        raise Unsent(f"push: {'; '.join(said)}; what was made is still here: `dvc push` sends it")
    return Completed()


class Outcome(NamedTuple):
    stage: str
    state: State[Any]
    seconds: float


PARENT = os.getppid()


def is_orphan() -> bool:
    """Whether the worker that had started the run is gone. A run started by hand outlives its shell, as under nohup."""
    return __name__ != "__main__" and os.getppid() != PARENT


def ended() -> bool:
    """Whether somebody cancelled the run, or killed its worker. A server that is away for a moment stops no stage."""
    if is_orphan():
        return True
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run.id).state
    except httpx.HTTPError:
        return False
    return state is not None and (state.is_cancelled() or state.is_cancelling())


def conduct(steps: list[Step], workers: int, submit: Callable[..., PrefectFuture[Any]]) -> list[Outcome]:
    """Runs at most `workers` steps side by side, each as soon as what it needs has ended; in order of their end.

    submit: starts a step, given the futures of those that it needs.
    """
    futures: dict[str, PrefectFuture[Any]] = {}
    began: dict[str, float] = {}
    ends: Queue[tuple[str, float]] = Queue()
    outcomes: list[Outcome] = []

    def note_end(name: str, _: PrefectFuture[Any]) -> None:
        ends.put((name, time.monotonic()))

    while len(outcomes) < len(steps):
        over = {outcome.stage for outcome in outcomes}
        ready = [step for step in steps if step.stage not in futures and over.issuperset(step.needs)]
        for step in ready[: workers - len(futures) + len(outcomes)]:
            began[step.stage] = time.monotonic()
            futures[step.stage] = submit(step, [futures[need] for need in step.needs])
            futures[step.stage].add_done_callback(partial(note_end, step.stage))
        try:
            name, end = ends.get(timeout=POLL_S)
            futures[name].wait()  # from here on it holds its state
            outcomes.append(Outcome(name, futures[name].state, end - began[name]))
        except Empty:
            if not STOPPED.is_set() and ended():
                stop()
    return outcomes


def rows(outcomes: list[Outcome]) -> list[list[str]]:
    return [[outcome.stage, str(outcome.state.name), f"{outcome.seconds:.1f}"] for outcome in outcomes]


def tell(outcomes: list[Outcome]) -> None:
    width = max((len(outcome.stage) for outcome in outcomes), default=0)
    for name, state, seconds in rows(outcomes):
        say(f"{name:<{width}}  {state:<9}  {seconds:>8} s")
    artifacts.stages(rows(outcomes))


def verdict(outcomes: list[Outcome]) -> State[Any]:
    states = [outcome.state for outcome in outcomes]
    messages = [state.message for state in states if state.is_failed() and state.message]
    if messages:
        return Failed(message="\n".join(dict.fromkeys(messages)))
    if any(state.is_cancelled() for state in states):
        return stopped()
    return Completed(name="Cached") if all(state.name == "Cached" for state in states) else Completed()


def stopped() -> State[Any]:
    if is_orphan():
        return Crashed(message="the worker of this run was killed: the next run goes on from here")
    return Cancelled(message="stopped: the next run goes on from here")


@flow(name="finetune", persist_result=False, retries=0, on_failure=[notice.post], on_crashed=[notice.post])
def finetune(
    targets: list[str] | None = None,
    overrides: dict[str, Any] | None = None,
    workers: Annotated[int, Field(ge=1)] = 2,
    timeout_s: Annotated[float, Field(gt=0)] | None = None,
    pull: bool = False,
    push: bool = False,
    branch: str | None = None,
    follow: str | None = None,
) -> State[Any]:
    """Runs every stage of dvc.yaml that is out of date. While another run is in this folder, this one waits.

    Args:
        targets: Names of stages, as `dvc stage list` shows them; run with all that they need. Empty for all stages.
        overrides: Values written to params.yaml first and left there, by dotted name: {"train.beta": 0.2}.
        workers: How many stages run side by side. Use 1 where they share one GPU.
        timeout_s: The longest that one stage may take, in seconds. Empty for no limit.
        pull: Fetch from the DVC remote what a stage needs and this folder lacks, and only that.
        push: After the run, send what is new to the DVC remote.
        branch: After the run, commit dvc.lock, metrics and plots on this branch, such as runs. It may not be checked
            out. Empty to commit nothing.
        follow: Before the run, bring this folder up to a branch of a remote, such as origin/main, by fast-forward.
    """
    with chdir(ROOT), leashes():
        try:
            lock, steps = AHEAD.pop() if AHEAD else (None, None)
            with alone(UUID(flow_run.id), lambda seconds: not STOPPED.wait(seconds) and not ended(), lock) as lock:
                hold(lock)
                end = run(targets or [], overrides or {}, workers, timeout_s, pull, push, branch, follow, steps)
        except Abandoned:
            return stopped()
        if end.is_failed():
            artifacts.headline(str(flow_run.name), str(end.message))
        return end


def run(
    targets: list[str],
    overrides: dict[str, Any],
    workers: int,
    timeout_s: float | None,
    pull: bool,
    push: bool,
    branch: str | None,
    follow: str | None,
    steps: list[Step] | None,
) -> State[Any]:
    """The flow, where no other run is in the folder. steps: the plan, if it is made already."""
    try:
        refuse(branch, pull or push)
        if follow:
            history.fast_forward(follow)
        if steps is None:
            with adjusted(overrides):
                steps = plan(targets)
    except (UserError, DvcException) as error:
        return Failed(message=one_line(error))

    def submit(step: Step, needed: list[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        return stage.submit(step, timeout_s, pull, return_state=False, wait_for=needed)

    outcomes = conduct(steps, workers, submit)
    if any(step.stale for step in steps):
        sort_lock()
    end = verdict(outcomes)
    if push and end.is_completed():
        outcomes += conduct([Step("push", [], True, [])], 1, sent)
        end = verdict(outcomes)
    tell(outcomes)
    if end.name != "Cached":
        artifacts.results()
    return commit(branch, end) if branch and end.is_completed() else end


def refuse(branch: str | None, remote: bool) -> None:
    """A UserError about what would fail only after the stages had run."""
    if branch:
        history.refuse(branch)
    if remote:
        refuse_no_remote()


def sent(_: Step, __: list[PrefectFuture[Any]]) -> PrefectFuture[Any]:
    return push.submit(return_state=False)


def commit(branch: str, end: State[Any]) -> State[Any]:
    summary = artifacts.SUMMARY.read_text() if artifacts.SUMMARY.exists() else ""
    try:
        made = history.commit(branch, f"Run {flow_run.name}\n\n{summary}", in_git())
    except UserError as mistake:
        return Failed(message=one_line(mistake))
    say(f"{branch}: {made[:10]}" if made else f"{branch}: nothing new to commit")
    return end


def parameters(given: argparse.Namespace) -> dict[str, Any]:
    """The flow's own, with misspelt names refused while the server is still on its way up."""
    overrides = values(given.set)
    places(overrides)  # a UserError for a name that is not there
    if given.targets:
        refuse_unknown(given.targets)
    refuse(given.branch, given.pull or given.push)
    return {name: value for name, value in vars(given).items() if name != "set"} | {"overrides": overrides}


AHEAD: list[tuple[IO[str], list[Step]]] = []


def plan_ahead(given: argparse.Namespace) -> None:
    """Plans while the server is on its way up, where the folder is free. Whatever is wrong, the run will find again."""
    lock = opened()
    if given.set or given.follow or not taken(lock):
        lock.close()
        return
    try:
        steps = plan(given.targets)
        with adjusted({}):  # not beside the plan: the server needs the other core
            pass
    except (UserError, DvcException):
        lock.close()
    else:
        AHEAD.append((lock, steps))


@contextmanager
def served(own: Server | None) -> Iterator[None]:
    """Within a server: one that Prefect's settings name, else our own."""
    if own is None or PREFECT_API_URL.value():
        yield
    else:
        finetune.serialize_parameters({})  # imports FastAPI, for a third of a second, which later nothing would hide
        own.wait()
        print(f"watch: {own.url}", flush=True)
        threading.Thread(target=own.keep, daemon=True).start()
        # No heartbeats: nothing of our own server listens for them, and a run waits a second for their thread to end.
        with temporary_settings({PREFECT_API_URL: f"{own.url}/api", PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield


def main() -> None:
    try:
        given = parameters(ARGUMENTS)
    except (UserError, DvcException) as error:
        sys.exit(one_line(error))
    try:
        if SERVER:
            plan_ahead(ARGUMENTS)
        gc.freeze()
        gc.enable()
        with served(SERVER):
            finetune(**given)
    except (FailedRun, CancelledRun) as end:
        sys.exit(str(end))
    except ParameterTypeError as error:
        sys.exit(one_line(error))
    except (httpx.HTTPError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith("Failed to reach API"):
            raise
        sys.exit(f"prefect: no server at {PREFECT_API_URL.value()} ({one_line(error)}); the next run goes on from here")
    except KeyboardInterrupt:
        print("stopped: the next run goes on from here", file=sys.stderr)
        sys.exit(130)
    if artifacts.SUMMARY.exists():
        print(artifacts.SUMMARY.read_text().rstrip())
    if artifacts.REPORT.exists():
        print(f"report: {artifacts.REPORT.resolve()}")


if __name__ == "__main__":
    main()
