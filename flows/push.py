"""The push of a run: a task that Prefect tries again where that may help."""

import re
from functools import partial
from typing import Any

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled, Completed
from prefect.tasks import exponential_backoff

from dvc_commands import DvcCommands
from graph import Step
from run_log import log

PUSH = Step("push", needs=[], is_stale=True, nested=[])  # no stage, but shown as one


class PushFailed(Exception):
    """What DVC printed about a push that failed."""


# Errors that a second attempt would meet again.
PERMANENT = re.compile(
    r"credential|denied|forbidden|authenti|does not exist|NoSuchBucket|InvalidAccessKey|SignatureDoesNotMatch"
    r"|config file error|not supported|requires",
    re.IGNORECASE,
)


def is_temporary(_: object, __: object, state: State[Any]) -> bool:
    """Return whether a push that failed may succeed at another attempt."""
    return not PERMANENT.search(state.message or "")


@task(
    name="push",
    task_run_name="push",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=3),
    retry_condition_fn=is_temporary,
)
def push_outputs(commands: DvcCommands) -> State[Any]:
    """Send what is new to the DVC remote, run-cache included. Raises PushFailed, for Prefect to try again."""
    finished = commands.run("push", "--run-cache", timeout_s=None, on_line=partial(log, stage="push"))
    if finished.status == 0:
        return Completed()
    if commands.is_stopped.is_set():
        return Cancelled(message="stopped with the run")
    errors = [line.removeprefix("ERROR: ") for line in finished.lines if line.startswith("ERROR: ")]
    raise PushFailed(f"push: {'; '.join(errors) or 'no message'}; what was made is still here: `dvc push` sends it")
