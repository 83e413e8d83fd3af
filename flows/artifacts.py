"""What a run shows in the UI. An artifact that cannot be written logs a warning and fails no run."""

import logging
import os
import re
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from dvc.utils.serialize import parse_yaml
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.exceptions import CancelledRun, CrashedRun, FailedRun
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

import choices
import overrides
from graph import metric_changes

REPORT = Path("report/index.html")
SUMMARY = Path("report/summary.txt")
PLOTS = Path("report/plots")
PROGRESS = re.compile(r"\S.*?: (?:step )?(\d+) of (\d+)\b")  # "score tsp_construct: 400 of 1200, 74/s, 8 s left"
INTERVAL_S = 2.0  # between two updates of a progress bar
MAX_LENGTH = 200  # characters of a run's name


@contextmanager
def errors_logged() -> Iterator[None]:
    """Log an error of the block as a warning."""
    try:
        yield
    except Exception as error:
        get_run_logger().warning("artifacts: %s", " ".join(str(error).split()))


class ProgressBar:
    """A bar on the page of a task run, drawn from the lines that the stage prints."""

    def __init__(self, stage: str) -> None:
        self.key = artifact_key(stage)
        self.artifact: UUID | None = None
        self.updated = 0.0

    def update(self, line: str) -> None:
        """Draw the bar where the line tells of progress, but not too often."""
        match = PROGRESS.match(line)
        if not match or (time.monotonic() < self.updated + INTERVAL_S and match[1] != match[2]):
            return
        self.updated = time.monotonic()
        percent = 100 * int(match[1]) / max(int(match[2]), 1)
        with errors_logged():
            if self.artifact is None:
                self.artifact = create_progress_artifact(percent, key=self.key, description=line)  # type: ignore[assignment]
            else:
                update_progress_artifact(self.artifact, percent, description=line)


def artifact_key(name: str) -> str:
    """Return the name as Prefect allows it: lower case, digits and dashes."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def write_stages(rows: list[list[str]]) -> None:
    """Write the table of the stages: name, state, seconds."""
    with errors_logged():
        write_table("stages", ["stage", "state", "seconds"], rows, "What this run did with each stage.")


def write_table(key: str, header: list[str], rows: Iterable[list[str]], description: str) -> None:
    """Write a table artifact."""
    create_table_artifact([dict(zip(header, row, strict=True)) for row in rows], key=key, description=description)


class NoSecondTraceback(logging.Filter):
    """Drops what Prefect logs about a flow or task that returned Failed: a traceback of its own, or an empty one."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        if record.exc_info and not kind:
            record.exc_info = None
        return kind is None or not issubclass(kind, (FailedRun, CrashedRun, CancelledRun))


for name in ("prefect.engine", "prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(name).addFilter(NoSecondTraceback())


def run_name() -> str:
    """Return what a run is to do, followed by the name that it was given or drew, which tells it from others."""
    given = flow_run.parameters
    chosen = {name: given[name] for name in choices.NAMES if given[name] and given[name] != choices.AS_IS}
    changes = [f"{name}={value}" for name, value in {**chosen, **given["overrides"]}.items()]
    what = ", ".join([*(given["targets"] or ["all stages"]), *changes])
    name = str(flow_run.name)
    if name.startswith(f"{what} ("):  # a retry, maybe with the reason for which the first attempt failed
        return name[: name.index(")", len(what)) + 1]
    return f"{what} ({name})"


def add_tags() -> None:
    """Tag the run with its tasks, preset, strategy and method, as params.yaml has them: the UI filters by tags."""
    with errors_logged(), get_client(sync_client=True) as client:
        content = parse_yaml(Path("params.yaml").read_text(), "params.yaml")
        values = [(key, overrides.value(content, name)) for key, name in choices.NAMES.items()]
        tags = [f"{key}:{value}" for key, value in values if isinstance(value, str)]
        tasks = content.get("tasks")
        tags += tasks_of(flow_run.parameters["targets"], tasks) if isinstance(tasks, list) else []
        client.update_flow_run(flow_run.id, tags=sorted({*flow_run.tags, *tags}))


def tasks_of(targets: Sequence[str], tasks: list[Any]) -> list[str]:
    """Return those of the tasks that a run is about: where each of its targets names one, as score@TASK does, these."""
    named = {target.partition("@")[2] for target in targets}
    return [str(task) for task in tasks if "" in named or not named or str(task) in named]


def add_to_name(message: str) -> None:
    """Append the first line of a failure to the run's name, the one text that heads its page and the list of runs."""
    with errors_logged(), get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=f"{flow_run.name}: {message.splitlines()[0]}"[:MAX_LENGTH])


def write_results(behind: list[str]) -> None:
    """Write the metrics that differ from the last commit, and the report.

    behind: stages that are out of date. Where there are any, the report is another run's and is left out.
    """
    with errors_logged():
        note = f" Out of date, and not of this run: {', '.join(behind)}." if behind else ""
        header, rows = ["metric", "last commit", "now", "difference"], list(metric_changes())
        what = "Metrics that differ from the last commit." if rows else "No metric differs from the last commit."
        write_table("metrics", header, rows, f"{what}{note}")
    if REPORT.exists() and SUMMARY.exists() and not behind:
        with errors_logged():
            create_markdown_artifact(report_page(), key="report", description="Base against tuned model; warnings.")


def report_page() -> str:
    """Return a link to the report, its table, which ends with the warnings, and its drawings."""
    # A page of the UI cannot open files: serve.py serves the report, and sets DARTUNE_REPORT_URL.
    url = os.environ.get("DARTUNE_REPORT_URL", REPORT.resolve().as_uri())
    drawings = [
        f"**{file.stem}**\n\n![{file.stem}](data:image/svg+xml;base64,{b64encode(file.read_bytes()).decode()})"
        for file in sorted(PLOTS.glob("*.svg"))
    ]
    return "\n\n".join([f"[{url}]({url})", f"```\n{SUMMARY.read_text().rstrip()}\n```", *drawings])
