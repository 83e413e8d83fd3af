"""The pipeline as a Prefect flow: one task run per DVC stage.

Prefect shows the run, starts stages side by side, times them out and cancels them. What the stages are, which of them
are out of date and what they have made is up to DVC.

    python flows/finetune.py [--workers N] [--set NAME=VALUE] [--timeout-s S] [--pull] [--push] [--branch B] [STAGE ...]
"""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
from dvc.exceptions import DvcException
from prefect import State, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import ParameterTypeError
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

import artifacts
import choices
import history
import overrides as parameters
import run_log
import webhook
from cancellation import is_cancelled, stop_if_cancelled, stopped
from dartune.errors import UserError, disk_problem, one_line
from dvc_commands import DVC_LINE, DvcCommands
from graph import Step, check_remote, explained, files_for_git, locked_stages, plan, sort_lock
from push import PUSH, push_outputs
from run_log import log
from schedule import Outcome, schedule
from server import Server
from supervisor import TIMED_OUT
from workspace import CancelledWhileWaiting, dvc_is_at_work, exclusive

ROOT = Path(__file__).resolve().parent.parent
MODULES = "modules"  # the stage that writes down the code of all others


@flow(
    name="finetune",
    flow_run_name=artifacts.run_name,
    persist_result=False,
    retries=0,
    on_failure=[webhook.notify],
    on_crashed=[webhook.notify],
)
def finetune(
    targets: Sequence[str] = (),
    tasks: Annotated[Sequence[str], choices.some_of(choices.tasks())] = (),
    preset: Annotated[str, choices.one_of(choices.presets())] = choices.AS_IS,
    strategy: Annotated[str, choices.one_of(choices.strategies())] = choices.AS_IS,
    method: Annotated[str, choices.one_of(choices.trainers())] = choices.AS_IS,
    overrides: Mapping[str, Any] = {},
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
        tasks: Which tasks run. None selected: those of params.yaml. This and the next four are for this run alone; what
            should last is edited in params.yaml or its preset, and committed.
        preset: The base model and its settings, a file of presets/. What its section `params` sets comes with it.
        strategy: How pairs are drawn: sample.strategy. A mixture goes into overrides.
        method: The trainer: train.method.
        overrides: Other values, by dotted name: {"trainers.dpo.beta": 0.2}.
        workers: How many stages run side by side, at most as many as there are tasks. Use 1 where they share one GPU.
        timeout_s: The longest that one stage may take, in seconds. Empty for no limit.
        pull: Fetch from the DVC remote what a stage needs and this folder lacks, and only that.
        push: After the run, send what is new to the DVC remote.
        branch: After the run, commit dvc.lock and metrics/summary.json on this branch, which is not checked out.
        follow: Before the run, bring this folder up to a branch of a remote, such as origin/main, by fast-forward.
    """
    with chdir(ROOT):
        try:
            if branch:
                history.check_branch(branch)
            if pull or push:
                check_remote()
            chosen = {"tasks": [*tasks], "preset": preset, "strategy": strategy, "method": method}
            changes = choices.overrides(overrides, chosen)
            with exclusive(str(flow_run.id), str(flow_run.name), is_cancelled, log) as lock:
                if left := parameters.take_back():
                    log(f"{left} as before a run that was killed")
                if follow:
                    history.fast_forward(follow)
                with parameters.applied(whole(changes)), DvcCommands(lock, workers) as commands:
                    artifacts.add_tags()
                    outcomes = run_stages(commands, [*targets], timeout_s, pull, push)
                    state, behind = final_state(outcomes), out_of_date(outcomes, [*targets])
                    report(outcomes, behind)
                    if branch and state.is_completed():
                        commit(branch, behind)
        except CancelledWhileWaiting:
            state = stopped()
        except UserError as error:
            state = Failed(message=" ".join(str(error).split()))
        except DvcException as error:
            state = Failed(message=explained(error))
        except OSError as error:
            if not disk_problem(error):
                raise
            state = Failed(message=disk_problem(error))
        if state.is_failed():
            artifacts.add_to_name(str(state.message))
        return state


def whole(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the changes with what the preset that they choose sets besides; log the latter."""
    values = parameters.with_preset(changes)
    if besides := [f"{name}={value}" for name, value in values.items() if name not in changes]:
        log(f"preset {values['preset']} sets {', '.join(besides)}")
    return values


# ---- Plan and run


def run_stages(
    commands: DvcCommands, targets: list[str], timeout_s: float | None, pull: bool, push: bool
) -> list[Outcome]:
    """Bring the targets (every stage, if none is named) up to date; return all steps in the order in which they ended.

    Whichever source file changed, by the graph all stages are stale. So the stage `modules` runs before the rest is
    planned: the plan then tells which stages run other code than before.
    """

    def submit(step: Step, needed: list[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        if step is PUSH:
            return push_outputs.submit(commands, return_state=False)
        return run_stage.submit(step, commands, timeout_s, pull, return_state=False, wait_for=needed)

    if dvc_is_at_work():
        log("waiting for a DVC command that is at work in this folder")
    steps, before = plan_or_check(targets), locked_stages()
    # No more than share the cores: `baseline` waits for no training, and would run beside it with as many threads.
    run = partial(schedule, workers=commands.n_stages(), submit=submit, watch=partial(stop_if_cancelled, commands))
    is_stale = any(step.is_stale for step in steps)
    modules = [step for step in steps if step.stage == MODULES]
    outcomes = run(modules, earlier=[])
    if any(step.is_stale for step in modules) and final_state(outcomes).is_completed():
        steps = plan(targets)
    outcomes = run([step for step in steps if step.stage != MODULES], earlier=outcomes)
    if is_stale:
        sort_lock(before)
    if push and final_state(outcomes).is_completed():
        outcomes = run([PUSH], earlier=outcomes)
    return outcomes


def plan_or_check(targets: list[str]) -> list[Step]:
    """Return plan(targets). Where DVC finds none, raise what `dartune check` says of the parameters, else DVC's error.

    Otherwise the stage `modules` checks the parameters: it runs where one of them has changed.
    """
    try:
        return plan(targets)
    except (DvcException, TypeError):  # DVC answers `tasks: tsp_construct`, which is no list, with a TypeError
        parameters.check_params()
        raise


# Never retried: what failed was wrong or was stopped, and `make run` goes on where it ended.
@task(task_run_name="{step.stage}", cache_policy=NO_CACHE, persist_result=False, retries=0)
def run_stage(step: Step, commands: DvcCommands, timeout_s: float | None, pull: bool) -> State[Any]:
    """Run one stage through `dvc repro`, or start nothing at all if it is up to date."""
    if not step.is_stale:
        return Completed(name="Cached", message="up to date")
    absent = [path for path in step.nested if not Path(path).exists()]
    if pull and absent:
        fetched = run_dvc(commands, step.stage, timeout_s, "pull", *absent)
        if not fetched.is_completed():
            return fetched
    options = ["--pull", "--allow-missing"] if pull else []
    return run_dvc(commands, step.stage, timeout_s, "repro", *options, "--single-item", step.stage)


def run_dvc(commands: DvcCommands, stage: str, timeout_s: float | None, *words: str) -> State[Any]:
    """Return the state that a DVC command for a stage ends in. Its lines are logged and drawn as progress."""
    progress = artifacts.ProgressBar(stage)

    def on_line(line: str) -> None:
        if not DVC_LINE.match(line):
            log(line, stage)
            progress.update(line)

    finished = commands.run(*words, timeout_s=timeout_s, on_line=on_line)
    if finished.status == 0:
        if any("didn't change, skipping" in line for line in finished.lines):
            return Completed(name="Cached", message="what it depends on came out as before")
        if any("is cached - skipping run" in line for line in finished.lines):
            return Completed(name="Restored", message="from an earlier run on the same inputs")
        return Completed()
    if finished.status == TIMED_OUT:
        message = f"{stage}: not done after {timeout_s:g} s, stopped. Raise timeout_s if that is too few."
        return Failed(name="TimedOut", message=message)
    if commands.is_stopped.is_set():
        return Cancelled(message="stopped with the run")
    return Failed(message=finished.failure() or f"{stage}: its command failed without a message")


# ---- Report


def final_state(outcomes: list[Outcome]) -> State[Any]:
    """Return the state of a run with these outcomes."""
    states = [outcome.state for outcome in outcomes]
    messages = [state.message for state in states if state.is_failed() and state.message]
    if messages:
        return Failed(message="\n".join(dict.fromkeys(messages)))
    if any(state.is_cancelled() for state in states):
        return stopped()
    return Completed(name="Cached") if all(state.name == "Cached" for state in states) else Completed()


def out_of_date(outcomes: list[Outcome], targets: list[str]) -> list[str]:
    """Return the stages whose results are not those of the parameters and the code of this run."""
    if final_state(outcomes).is_completed():
        return [step.stage for step in plan([]) if step.is_stale] if targets else []
    return [outcome.stage for outcome in outcomes if not outcome.state.is_completed() and outcome.stage != PUSH.stage]


def report(outcomes: list[Outcome], behind: list[str]) -> None:
    """Log the state and the seconds of every step, then the report's table; show the same in the UI.

    behind: out_of_date(). Where it has any, the table is another run's and is not shown.
    """
    rows = [[outcome.stage, str(outcome.state.name), f"{outcome.seconds:.1f}"] for outcome in outcomes]
    width = max((len(outcome.stage) for outcome in outcomes), default=0)
    for stage, state, seconds in rows:
        log(f"{stage:<{width}}  {state:<9}  {seconds:>8} s")
    artifacts.write_stages(rows)
    if any(outcome.state.name != "Cached" for outcome in outcomes):
        artifacts.write_results(behind)
    if not final_state(outcomes).is_completed():
        return
    if behind:
        log(f"no table, as these are out of date: {', '.join(behind)}. A run without STAGE brings them up to date.")
    elif artifacts.SUMMARY.exists():
        log(artifacts.SUMMARY.read_text().rstrip())
        log(f"report: {artifacts.REPORT.resolve()}")


def commit(branch: str, behind: list[str]) -> None:
    """Commit the run's results on the branch. Raises UserError where it moved meanwhile."""
    has_table = artifacts.SUMMARY.exists() and not behind
    table = artifacts.SUMMARY.read_text() if has_table else f"out of date: {', '.join(behind)}\n" if behind else ""
    new = history.commit(branch, f"Run {flow_run.name}\n\n{table}", files_for_git())
    log(f"{branch}: {new[:10]}" if new else f"{branch}: nothing new to commit")


# ---- By hand


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line, by the names of the flow's parameters."""
    parser = argparse.ArgumentParser(prog="flows/finetune.py", description="Run the stages that are out of date.")
    parser.add_argument("targets", nargs="*", metavar="STAGE", help="with what it needs; every stage by default")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="stages side by side: 1 on one GPU")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="NAME=VALUE", help="another value, for this run"
    )
    parser.add_argument("--timeout-s", type=float, metavar="S", help="the longest that one stage may take")
    parser.add_argument("--pull", action="store_true", help="fetch what a stage needs from the DVC remote")
    parser.add_argument("--push", action="store_true", help="then send what is new to the DVC remote")
    parser.add_argument("--branch", metavar="B", help="then commit dvc.lock and the summary on this branch")
    parser.add_argument("--follow", metavar="REMOTE/B", help="first bring this folder up to a remote's branch")
    return parser.parse_args()


@contextmanager
def prefect_server() -> Iterator[None]:
    """Run the block with the server that Prefect's settings name, else with one of our own."""
    if PREFECT_API_URL.value():
        yield
        return
    server = Server()
    server.wait()
    print(f"watch: {server.url}", flush=True)
    threading.Thread(target=server.keep_alive, daemon=True).start()
    with temporary_settings({PREFECT_API_URL: f"{server.url}/api"}):
        yield


@one_line
def main() -> None:
    """Run the flow with the arguments of the command line; exit with its failure."""
    run_log.is_by_hand = True
    arguments = parse_arguments()
    arguments.overrides = parameters.parse_settings(arguments.overrides)
    os.chdir(ROOT)  # where our server finds prefect.toml
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # as Ctrl-C; under nohup, SIGHUP stays ignored
            signal.signal(number, signal.default_int_handler)
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.CRITICAL)  # the terminal is for what the stages print; the UI has Prefect's log
    try:
        with prefect_server():
            state = finetune(**vars(arguments), return_state=True)
    except ParameterTypeError as error:
        raise UserError(str(error)) from error
    except (httpx.HTTPError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith("Failed to reach API"):
            raise
        url = PREFECT_API_URL.value()
        raise UserError(f"prefect: no server at {url} ({error}); the next run goes on from here") from error
    except KeyboardInterrupt:
        print("stopped: the next run goes on from here", file=sys.stderr)
        sys.exit(130)
    if not state.is_completed():
        sys.exit(state.message)


if __name__ == "__main__":
    main()
