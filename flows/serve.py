"""A box that runs dartune by itself: a Prefect server, the deployments of prefect.yaml, and a worker for each pool.

    python flows/serve.py [--host ADDRESS] [--port N]

Everything is on a leash: it ends with this script, however that ends. The server has no password: it listens on this
machine alone unless told otherwise, and then whoever reaches it can start runs.
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

ROOT = Path(__file__).resolve().parent.parent
POOLS = {"local": 2, "gpu": 1}  # runs at a time; those in one folder wait for each other anyway
GRACE_S = 10.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="flows/serve.py", description="Serve the deployments of prefect.yaml.")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen; 0.0.0.0: everywhere")
    parser.add_argument("--port", type=int, default=4200, metavar="N", help="the report is on the next one")
    return parser.parse_args()


def refuse_taken(host: str, ports: tuple[int, ...]) -> None:
    for port in ports:
        try:
            with socket.socket() as door:
                door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                door.bind((host, port))
        except (OSError, OverflowError) as error:
            sys.exit(f"serve: {host}:{port} cannot be listened on ({error}); choose another: make serve PORT=4300")


def prefect(*words: str) -> None:
    """A command of Prefect's own, quiet unless it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        sys.exit(f"serve: prefect {' '.join(words)}: {' '.join((done.stdout + done.stderr).split())[-400:]}")


def deploy(pools: list[str]) -> None:
    for pool in POOLS:
        prefect("work-pool", "create", pool, "--type", "process", "--overwrite")
        prefect("work-pool", "set-concurrency-limit", pool, str(POOLS[pool]))
    prefect("--no-prompt", "deploy", "--all")
    print(f"serving: {', '.join(pools)}; runs are logged in the UI. Ctrl-C ends all of it.", flush=True)


def main() -> None:
    given = arguments()
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    refuse_taken(given.host, (given.port, given.port + 1))
    from leash import Leash
    from server import Server

    own = "127.0.0.1" if given.host == "0.0.0.0" else given.host
    os.environ |= {
        "PREFECT_API_URL": f"http://{own}:{given.port}/api",
        "DARTUNE_REPORT_URL": f"http://{own}:{given.port + 1}/",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    os.environ.setdefault("DO_NOT_TRACK", "1")
    pools = [pool for pool in POOLS if pool != "gpu" or shutil.which("nvidia-smi")]
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        server = Server(given.host, given.port)
        server.wait()
        print(f"watch: {server.url}", flush=True)
        deploy(pools)
        Path("report").mkdir(exist_ok=True)
        pages = ["-m", "http.server", str(given.port + 1), "--bind", given.host, "--directory", "report"]
        commands = [["-m", "prefect", "worker", "start", "--pool", pool, "--name", pool] for pool in pools]
        leashes = []
        for command in [pages, *commands]:
            leashes.append(Leash([sys.executable, *command], GRACE_S, stdout=subprocess.DEVNULL, stderr=None))
            stack.callback(leashes[-1].end)
        while all(leash.process.poll() is None for leash in [server.leash, *leashes]):
            time.sleep(0.5)
        sys.exit("serve: a part of it ended by itself; start it again")


if __name__ == "__main__":
    main()
