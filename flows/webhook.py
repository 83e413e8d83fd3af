"""Posts to the address in DARTUNE_NOTIFY_URL, a webhook of Slack, Mattermost or the like, when a run fails.

An environment variable, since such addresses are secrets: they are never logged. Prefect's automations can do the same
from its UI; this needs no server that outlives the run.
"""

import os
import time

import httpx
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging import get_logger

PAUSES_S = (0.0, 2.0, 8.0)  # before each attempt
TIMEOUT_S = 10.0


def notify(flow: object, flow_run: FlowRun, state: State[object]) -> None:
    """Post the run's name, state and reason. A hook of the flow: a webhook that fails only logs a warning."""
    url = os.environ.get("DARTUNE_NOTIFY_URL")
    if not url:
        return
    text = f"dartune: run {flow_run.name} is {state.name}: {state.message or 'no reason given'}"
    problem = ""
    for pause in PAUSES_S:
        time.sleep(pause)
        try:
            response = httpx.post(url, json={"text": text}, timeout=TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = type(error).__name__  # its message may hold the address
            continue
        if response.is_success:
            return
        problem = f"status {response.status_code}"
        if response.is_client_error:
            break  # asking again will not help
    get_logger("dartune").warning("DARTUNE_NOTIFY_URL: the webhook was not reached (%s)", problem)
