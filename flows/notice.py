"""Word of a run that failed, posted to the address in DARTUNE_NOTIFY_URL: a webhook of Slack, Mattermost or the like.

An environment variable, since such addresses are secrets: they are never logged. Prefect's automations can do the same
from its UI; this needs no server that outlives the run.
"""

import os
import time

import httpx
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging import get_logger

PAUSES_S = (0.0, 2.0, 8.0)
TIMEOUT_S = 10.0


def post(_: object, run: FlowRun, state: State[object]) -> None:
    """A hook of the flow. Tried three times; that nobody could be told fails no run once more."""
    url = os.environ.get("DARTUNE_NOTIFY_URL")
    if url:
        tell(url, f"dartune: run {run.name} is {state.name}: {state.message or 'no reason given'}")


def tell(url: str, text: str) -> None:
    problem = ""
    for pause in PAUSES_S:
        time.sleep(pause)
        try:
            answer = httpx.post(url, json={"text": text}, timeout=TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = type(error).__name__  # its words may hold the address
            continue
        if answer.is_success:
            return
        problem = f"status {answer.status_code}"
        if answer.is_client_error:
            break  # asking again will not help
    get_logger("dartune").warning("DARTUNE_NOTIFY_URL: nobody could be told (%s)", problem)
