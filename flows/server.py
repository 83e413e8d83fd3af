"""A Prefect server of our own, for one run where no server is configured, or for serve.py.

Prefect's own temporary server has no UI to watch a run in, dies of the Ctrl-C before the run's last state is written,
and outlives a flow that is killed.
"""

import atexit
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from supervisor import Supervised

LOG = Path(".prefect/server.log")
START_S = 120.0
PAUSE_S = 1.0
GRACE_S = 10.0  # the last states of a run are still being written when it ends


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return int(any_port.getsockname()[1])


class Server:
    """A server that is starting: `wait` before use. It ends after this process, within GRACE_S."""

    def __init__(self, host: str = "127.0.0.1", port: int | None = None) -> None:
        """host, port: where to listen; by default a free port that only this machine reaches."""
        port = port or free_port()
        self.url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
        self.listen = ["--host", host, "--port", str(port)]
        self.is_ended = threading.Event()
        LOG.parent.mkdir(exist_ok=True)
        LOG.write_text("")
        self.start()
        # Prefect sends its last logs and states at exit: registered before its first use, this runs after that. The
        # server writes them down and ends by itself; nobody has to wait for it.
        atexit.register(self.stop)

    def start(self) -> None:
        """Start the server's process, in the current folder, whose prefect.toml it reads."""
        app = ["--factory", "prefect.server.api.server:create_app", *self.listen, "--log-level", "error"]
        with LOG.open("a") as log:
            self.supervised = Supervised(
                [sys.executable, "-m", "uvicorn", *app],
                GRACE_S,
                env=os.environ | {"PREFECT_API_URL": f"{self.url}/api", "PREFECT__SERVER_FINAL": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> None:
        """Have the server ended; returns at once."""
        self.is_ended.set()
        self.supervised.terminate()

    def end(self) -> None:
        """Stop the server and wait until it is gone."""
        self.stop()
        self.supervised.end()

    def keep_alive(self) -> None:
        """Restart the server at the same address whenever it was killed; runs until `end`, in a thread."""
        while not self.is_ended.wait(PAUSE_S):
            if not self.supervised.is_alive():
                self.start()

    def wait(self) -> None:
        """Return when the server answers; exit where it does not within START_S."""
        deadline = time.monotonic() + START_S
        while not self.is_healthy():
            if not self.supervised.is_alive() or time.monotonic() > deadline:
                sys.exit(f"prefect: the server did not start within {START_S:g} s; see {LOG}")
            time.sleep(0.05)

    def is_healthy(self) -> bool:
        """Return whether the server answers."""
        try:
            return bool(urllib.request.urlopen(f"{self.url}/api/health", timeout=5).status == 200)
        except OSError:
            return False
