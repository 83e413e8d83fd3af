"""Runs that somebody cancels, or whose worker is killed."""

import os
from typing import Any

import httpx
from prefect import State
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Cancelled, Crashed

import run_log
from dvc_commands import DvcCommands

PARENT = os.getppid()


def stop_if_cancelled(commands: DvcCommands) -> None:
    """Stop the stages of a run that somebody cancelled."""
    if not commands.is_stopped.is_set() and is_cancelled():
        commands.stop()


def is_orphan() -> bool:
    """Return whether the worker that started the run is gone. A run started by hand may outlive its shell (nohup)."""
    return not run_log.is_by_hand and os.getppid() != PARENT


def is_cancelled() -> bool:
    """Return whether somebody cancelled the run, or killed its worker. A server that is away cancels nothing."""
    if is_orphan():
        return True
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(flow_run.id).state
    except httpx.HTTPError:
        return False
    return state is not None and (state.is_cancelled() or state.is_cancelling())


def stopped() -> State[Any]:
    """Return the state of a run that was cancelled or lost its worker."""
    if is_orphan():
        return Crashed(message="the worker of this run was killed: the next run goes on from here")
    return Cancelled(message="stopped: the next run goes on from here")
