"""The pipeline as a Prefect flow: one task run per DVC stage, in the order and with the staleness that DVC knows.

Prefect shows, runs side by side, cancels and times out; DVC alone remembers what has been done.

    python flows/finetune.py [--workers N] [--set train.beta=0.2] [--timeout-s S] [STAGE ...]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Annotated, Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LEASH = Path(__file__).with_name("leash.py")
GRACE_S = 2.0  # between asking a stage to end and killing it
POLL_S = 2.0  # how often a cancellation is looked for while stages run


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="flows/finetune.py", description="Run what is out of date.")
    parser.add_argument("targets", nargs="*", metavar="STAGE", help="with what it needs; default: every stage")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="stages side by side; 1 for one GPU")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="changes params.yaml")
    parser.add_argument("--timeout-s", type=float, metavar="S", help="the longest that a stage may take")
    return parser.parse_args()


if __name__ == "__main__":
    from server import Server

    ARGUMENTS = arguments()
    os.chdir(ROOT)  # where Prefect finds prefect.toml
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # the stages have the terminal
    # Prefect takes 3 s to import and its server 7 s to start: the two overlap.
    SERVER = None if "PREFECT_API_URL" in os.environ else Server()

import httpx
from prefect import State, flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

from dartune.mistake import Mistake, nearest


class Step(NamedTuple):
    stage: str
    needs: list[str]
    stale: bool  # DVC has to look at it: it changed, or a stage before it may


class Outcome(NamedTuple):
    stage: str
    state: State[Any]
    seconds: float


def say(line: str, stage: str = "") -> None:
    """To the run's log and, where a person started the script, to the terminal."""
    get_run_logger().info(line)
    if __name__ == "__main__":
        sys.stdout.write(f"{stage} | {line}\n" if stage else f"{line}\n")
        sys.stdout.flush()


# ------ the plan: what DVC knows


def in_order(repo: Any, targets: list[str]) -> list[Any]:
    """The targets and what they need, in the order in which `dvc repro` visits them."""
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    return plan_repro(get_active_graph(repo.index.graph), collect_stages(repo, targets or ["dvc.yaml"]))


def plan(targets: list[str]) -> list[Step]:
    """The steps to the targets (to all stages, if none are named), each after those that it needs."""
    from dvc.repo import Repo
    from dvc.repo.reproduce import get_active_graph

    with Repo(_wait_for_lock=True) as repo:
        graph = get_active_graph(repo.index.graph)
        changed = set(repo.status())
        stale: set[Any] = set()
        for stage in in_order(repo, targets):
            if stage.addressing in changed or not stale.isdisjoint(graph.successors(stage)):
                stale.add(stage)
        return [
            Step(stage.addressing, [need.addressing for need in graph.successors(stage)], stage in stale)
            for stage in in_order(repo, targets)
        ]


def sort_lock() -> None:
    """Gives dvc.lock the order, so the bytes, that a plain `dvc repro` writes: stages end in any order here."""
    from dvc.repo import Repo
    from dvc.utils.serialize import load_yaml, modify_yaml

    if not Path("dvc.lock").exists():
        return
    with Repo(_wait_for_lock=True) as repo, repo.lock:
        place = {stage.addressing: i for i, stage in enumerate(in_order(repo, []))}
        found = list(load_yaml("dvc.lock")["stages"])
        ordered = sorted(found, key=lambda stage: place.get(stage, len(place)))
        if found != ordered:
            with modify_yaml("dvc.lock") as lock:
                lock["stages"] = {stage: lock["stages"][stage] for stage in ordered}


# ------ parameters


def names(section: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, value in section.items():
        yield above + name
        if isinstance(value, dict):
            yield from names(value, f"{above}{name}.")


def override(overrides: dict[str, Any]) -> None:
    """Writes into params.yaml, as an editor would, and only over names that are there."""
    from dvc.utils.serialize import load_yaml, modify_yaml

    known = list(names(load_yaml("params.yaml")))
    for name in overrides:
        if name not in known:
            raise Mistake(f"params.yaml: there is no {name!r}{nearest(name, known)}")
    with modify_yaml("params.yaml") as params:
        for name, value in overrides.items():
            *sections, last = name.split(".")
            section = params
            for each in sections:
                section = section[each]
            section[last] = value


def check() -> None:
    """Has the package refuse wrong parameters now rather than hours later."""
    if Path("src/dartune/cli.py").exists():
        command = [sys.executable, "-m", "dartune.cli", "check"]
        checked = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if checked.returncode:
            raise Mistake((checked.stderr.strip() or checked.stdout.strip() or f"{command} failed").splitlines()[-1])


def adjust(overrides: dict[str, Any]) -> None:
    before = Path("params.yaml").read_bytes() if overrides else b""
    if overrides:
        override(overrides)
    try:
        check()
    except Mistake:
        if overrides:
            Path("params.yaml").write_bytes(before)
        raise


# ------ a stage

LIVE: set[subprocess.Popen[str]] = set()
STOPPED = threading.Event()
START = threading.Lock()  # no stage starts between STOPPED and the end of those in LIVE


@contextmanager
def leashes() -> Iterator[None]:
    """No stage outlives the block. Signals are raised in the main thread only; Prefect's threads block on stages."""
    STOPPED.clear()
    try:
        yield
    finally:
        stop()


def stop() -> None:
    with START:
        STOPPED.set()
        for process in LIVE:
            let_go(process)


def let_go(process: subprocess.Popen[str]) -> None:
    """The leash kills the stage when the pipe to it closes."""
    assert process.stdin
    process.stdin.close()


@contextmanager
def leashed(stage: str) -> Iterator[subprocess.Popen[str] | None]:
    dvc = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    with START:
        if STOPPED.is_set():
            process = None
        else:
            process = subprocess.Popen(
                [sys.executable, str(LEASH), str(GRACE_S), *dvc],
                env=os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            LIVE.add(process)
    try:
        yield process
    finally:
        if process:
            let_go(process)
            process.wait()
            LIVE.discard(process)
