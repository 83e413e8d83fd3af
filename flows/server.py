"""A Prefect server for the length of one run, for whoever has none running.

Prefect's own temporary server shows no UI, dies of the Ctrl-C before the run's end is written down, and outlives a
flow that is killed.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

LOG = Path(".prefect/server.log")
START_S = 120.0


class Server:
    def __init__(self) -> None:
        """Returns at once; `wait` when the server is needed, some 7 s later."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        LOG.parent.mkdir(exist_ok=True)
        with LOG.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("leash.py"), "10", sys.executable, *self.command()],
                env=os.environ | {"PREFECT_API_URL": f"{self.url}/api", "PREFECT__SERVER_FINAL": "1"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # out of reach of the terminal's Ctrl-C
            )

    def command(self) -> list[str]:
        app = ["--factory", "prefect.server.api.server:create_app"]
        return ["-m", "uvicorn", *app, "--host", "127.0.0.1", "--port", str(self.port), "--log-level", "error"]

    def wait(self) -> None:
        end = time.monotonic() + START_S
        while not self.healthy():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                sys.exit(f"prefect: no temporary server within {START_S:g} s; its last words are in {LOG}")
            time.sleep(0.05)

    def healthy(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.url}/api/health", timeout=5).status == 200
        except OSError:
            return False

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()
