"""A box that runs dartune by itself: a Prefect server, the deployments of prefect.yaml, and a worker for each pool.

    python flows/serve.py [--host ADDRESS] [--port N]

All of it ends with this script, however that ends. The server has no password: it listens on this machine alone unless
told otherwise, and then whoever reaches it can start runs.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from server import Server
from supervisor import Supervised

ROOT = Path(__file__).resolve().parent.parent
POOLS = {"local": 2, "gpu": 1}  # runs at a time; those in one folder wait for each other anyway
GRACE_S = 10.0


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="flows/serve.py", description="Serve the deployments of prefect.yaml.")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen; 0.0.0.0: everywhere")
    parser.add_argument("--port", type=int, default=4200, metavar="N", help="the report is on the next one")
    return parser.parse_args()


def check_ports(host: str, ports: tuple[int, ...]) -> None:
    """Exit where a port cannot be listened on."""
    for port in ports:
        try:
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((host, port))
        except (OSError, OverflowError) as error:
            sys.exit(f"serve: {host}:{port} cannot be listened on ({error}); choose another: make serve PORT=4300")


def prefect(*words: str) -> None:
    """Run `prefect WORDS`, quiet unless it fails; then exit."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        sys.exit(f"serve: prefect {' '.join(words)}: {' '.join((done.stdout + done.stderr).split())[-400:]}")


def repository() -> str:
    """Return what the deployment from-git clones: DARTUNE_REPOSITORY, else origin of this clone, else this folder."""
    origin = ["git", "remote", "get-url", "origin"]
    named = os.environ.get("DARTUNE_REPOSITORY")
    return named or subprocess.run(origin, capture_output=True, text=True).stdout.strip() or str(ROOT)


def deploy() -> None:
    """Create the work pools and the deployments of prefect.yaml."""
    for pool, limit in POOLS.items():
        prefect("work-pool", "create", pool, "--type", "process", "--overwrite")
        prefect("work-pool", "set-concurrency-limit", pool, str(limit))
    prefect("--no-prompt", "deploy", "--all")


def main() -> None:
    """Serve until Ctrl-C, SIGTERM or the end of any part."""
    arguments = parse_arguments()
    host, port = arguments.host, arguments.port
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    check_ports(host, (port, port + 1))
    address = "127.0.0.1" if host == "0.0.0.0" else host
    os.environ |= {
        "PREFECT_API_URL": f"http://{address}:{port}/api",
        "DARTUNE_REPORT_URL": f"http://{address}:{port + 1}/",
        "DARTUNE_REPOSITORY": repository(),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    os.environ.setdefault("DO_NOT_TRACK", "1")
    pools = [pool for pool in POOLS if pool != "gpu" or shutil.which("nvidia-smi")]
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        server = Server(host, port)
        stack.callback(server.end)  # so that its port is free when this script ends
        server.wait()
        print(f"watch: {server.url}", flush=True)
        deploy()
        print(f"serving: {', '.join(pools)}; runs are logged in the UI. Ctrl-C ends all of it.", flush=True)
        Path("report").mkdir(exist_ok=True)
        pages = ["-m", "http.server", str(port + 1), "--bind", host, "--directory", "report"]
        workers = [["-m", "prefect", "worker", "start", "--pool", pool, "--name", pool] for pool in pools]
        parts = [server.supervised]
        for command in [pages, *workers]:
            parts.append(Supervised([sys.executable, *command], GRACE_S, stdout=subprocess.DEVNULL, stderr=None))
            stack.callback(parts[-1].end)
        while all(part.is_alive() for part in parts):
            time.sleep(0.5)
        sys.exit("serve: a part of it ended by itself; start it again")


if __name__ == "__main__":
    main()
