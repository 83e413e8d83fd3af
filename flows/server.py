"""A Prefect server: for the length of one run, for whoever has none running, or of serve.py.

Prefect's own temporary server has no UI to watch a run in, dies of the Ctrl-C before the run's end is written down, and
outlives a flow that is killed.
"""

import atexit
import gc
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from leash import Leash

LOG = Path(".prefect/server.log")
START_S = 120.0
PAUSE_S = 1.0
GRACE_S = 10.0  # the last states of a run are still being written when it ends


def free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return int(any_port.getsockname()[1])


def app() -> Any:
    """Prefect's, for uvicorn. What it imports stays: looking there for garbage takes 0.5 s now and 1 s at the end."""
    gc.disable()
    from prefect.server.api.server import create_app

    made = create_app()
    gc.freeze()
    gc.enable()
    return made


class Server:
    """On its way up: `wait` before use. host, port: where to listen; a free port of this machine alone by default."""

    def __init__(self, host: str = "127.0.0.1", port: int | None = None) -> None:
        port = port or free_port()
        self.url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
        self.listen = ["--host", host, "--port", str(port)]
        self.over = threading.Event()
        LOG.parent.mkdir(exist_ok=True)
        LOG.write_text("")
        self.start()
        # Prefect sends what is left of logs and states at exit: registered before Prefect's own, this runs after them.
        atexit.register(self.end)

    def start(self) -> None:
        app = ["--app-dir", str(Path(__file__).parent), "--factory", "server:app", *self.listen]
        with LOG.open("a") as log:
            self.leash = Leash(
                [sys.executable, "-m", "uvicorn", *app, "--log-level", "error"],
                GRACE_S,
                env=os.environ | {"PREFECT_API_URL": f"{self.url}/api", "PREFECT__SERVER_FINAL": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def end(self) -> None:
        self.over.set()
        self.leash.end()

    def keep(self) -> None:
        """For a thread: start it again, at the same address, whenever something killed it. A run waits for it."""
        while not self.over.wait(PAUSE_S):
            if self.leash.process.poll() is not None:
                self.start()

    def wait(self) -> None:
        end = time.monotonic() + START_S
        while not self.healthy():
            if self.leash.process.poll() is not None or time.monotonic() > end:
                sys.exit(f"prefect: the server did not start within {START_S:g} s; see {LOG}")
            time.sleep(0.05)

    def healthy(self) -> bool:
        try:
            return bool(urllib.request.urlopen(f"{self.url}/api/health", timeout=5).status == 200)
        except OSError:
            return False
