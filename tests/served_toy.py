"""The toy repository with `flows/serve.py` at work on it: server, deployments and worker as a user has them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from toy_repository import FLOWS, make_toy

START_S = 600  # one to four minutes on two cores, by what else they do


class Box(NamedTuple):
    root: Path
    port: int  # of Prefect; the report is on the next one
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def until(self, holds: Callable[[], bool], within_s: float) -> None:
        end = time.monotonic() + within_s
        while not holds():
            assert self.process.poll() is None and time.monotonic() < end, (self.root / "serve.log").read_text()
            time.sleep(0.2)

    def prefect(self, *words: str, returncode: int = 0) -> str:
        environment = os.environ | {"PREFECT_API_URL": f"{self.url}/api"}
        command = [sys.executable, "-m", "prefect", *words]
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == returncode, done.stdout + done.stderr
        return done.stdout

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def free_pair() -> int:
    """The first of two free ports side by side."""
    while True:
        with socket.socket() as one, socket.socket() as next_one, suppress(OSError, OverflowError):
            one.bind(("127.0.0.1", 0))
            next_one.bind(("127.0.0.1", one.getsockname()[1] + 1))
            return int(one.getsockname()[1])


@contextmanager
def served(root: Path) -> Iterator[Box]:
    """The repository is made in `root`; its report is a page that no stage has written."""
    make_toy(root)
    for name in ("prefect.yaml", "prefect.toml"):
        shutil.copy(FLOWS.parent / name, root)
    (root / "src/dartune/pairs/sql").mkdir(parents=True)
    (root / "src/dartune/pairs/sql/dar.sql").touch()  # a choice in the form
    (root / "report").mkdir()
    (root / "report/index.html").write_text("<!doctype html><title>toy</title><h1>What the toy found</h1>")
    (root / "report/summary.txt").write_text("no warnings\n")
    port = free_pair()
    with (root / "serve.log").open("w") as out:
        command = [sys.executable, "flows/serve.py", "--port", str(port)]
        process = subprocess.Popen(command, cwd=root, stdout=out, stderr=out)
    box = Box(root, port, process)
    try:
        box.until(lambda: "serving: local" in (root / "serve.log").read_text(), START_S)
        yield box
    finally:
        process.send_signal(signal.SIGTERM)  # a background job of a shell, and what it starts, ignore SIGINT
        process.wait(timeout=120)
