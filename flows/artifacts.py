"""What a run leaves in the UI. It is for looking at: whatever keeps an artifact from being written fails no run."""

import os
import re
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from graph import metric_changes

REPORT = Path("report/index.html")
SUMMARY = Path("report/summary.txt")
PLOTS = Path("report/plots")
DONE = re.compile(r"\S.*?: (?:step )?(\d+) of (\d+)\b")  # "score tsp_construct: 400 of 1200, 74/s, 8 s left"
EVERY_S = 2.0
LONGEST = 200  # characters of a run's name


@contextmanager
def harmless() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        get_run_logger().warning("artifacts: %s", " ".join(str(error).split()))


class Progress:
    """A bar on the page of a task run, from the lines that the stage prints."""

    def __init__(self, stage: str) -> None:
        self.key, self.bar, self.last = key(stage), None, 0.0
        self.bar: UUID | None

    def follow(self, line: str) -> None:
        if (found := DONE.match(line)) and (time.monotonic() > self.last + EVERY_S or found[1] == found[2]):
            self.last = time.monotonic()
            with harmless():
                self.show(100 * int(found[1]) / max(int(found[2]), 1), line)

    def show(self, percent: float, line: str) -> None:
        if self.bar is None:
            self.bar = create_progress_artifact(percent, key=self.key, description=line)  # type: ignore[assignment]
        else:
            update_progress_artifact(self.bar, percent, description=line)


def key(name: str) -> str:
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def markdown(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def stages(rows: list[list[str]]) -> None:
    with harmless():
        create_markdown_artifact(markdown(["stage", "state", "seconds"], rows), key="stages")


def headline(name: str, message: str) -> None:
    """Puts what a run failed with behind its name, the one thing that its page and the list of runs show on top."""
    with harmless(), get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=f"{name}: {message.splitlines()[0]}"[:LONGEST])


def results() -> None:
    """Metrics against the last commit, the report's place, its table and its drawings."""
    with harmless():
        header = ["file", "metric", "last commit", "now", "difference"]
        create_markdown_artifact(markdown(header, metric_changes()), key="metrics")
    if REPORT.exists():
        with harmless():
            # DARTUNE_REPORT_URL is set by serve.py: a page of the UI opens no files
            url = os.environ.get("DARTUNE_REPORT_URL", REPORT.resolve().as_uri())
            create_markdown_artifact(f"[{url}]({url})", key="report")
            create_markdown_artifact(f"```\n{SUMMARY.read_text()}\n```", key="results")  # ends with the warnings
        for file in sorted(PLOTS.glob("*.svg")):
            with harmless():
                picture = b64encode(file.read_bytes()).decode()
                create_image_artifact(f"data:image/svg+xml;base64,{picture}", key=key(file.stem), description=file.stem)
