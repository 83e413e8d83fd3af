"""Seconds of a run that has nothing to do: `dvc repro`, `dvc repro` with `true` for every command, and the flow.

`make bench-noop`, in a tree that is up to date. Prints medians and ranges of --n runs of each, in turn, on copies. DVC
runs no command where nothing changed, so the two copies, which have the same stages, dependencies, parameters and
outputs, differ only in the length of their commands.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "flows"))

from server import Server  # noqa: E402

AIM_S = 8.0  # of the flow with its own server, on two cores
HEAVY = ("torch", "transformers", "trl", "duckdb", "pyarrow")


def copy_tree(folder: Path) -> None:
    """Copy the working tree with data, models and the hashes that DVC knows."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    outputs = ("data", "models", "metrics", "plots", "report", ".dvc/cache")
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(outputs):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in outputs:
        shutil.copytree(ROOT / name, folder / name)
    sh(folder, "git", "init", "-q")


def make_trivial(folder: Path) -> None:
    """Replace every command by `true`, and commit the present outputs as its results."""
    yaml, file = YAML(), folder / "dvc.yaml"
    content = yaml.load(file)
    for stage in content["stages"].values():
        stage["cmd"] = "true"
    yaml.dump(content, file)
    sh(folder, "dvc", "commit", "-q", "-f")


def sh(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, env=os.environ | more, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"noop: {' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def start_server(folder: Path) -> Server:
    with chdir(folder):
        server = Server()
        server.wait()
        return server


def heavy(folder: Path, *command: str, **more: str) -> list[str]:
    """Return which packages of HEAVY a command imports."""
    times = sh(folder, sys.executable, "-X", "importtime", *command, **more).stderr
    imported = {name.split(".")[0] for name in re.findall(r"\| +([\w.]+)$", times, re.MULTILINE)}
    return sorted(imported.intersection(HEAVY))


def measure(folder: Path, n: int) -> dict[str, list[float]]:
    real, bare = folder / "real", folder / "bare"
    server = start_server(real)
    running = {"PREFECT_API_URL": f"{server.url}/api"}
    flow = (sys.executable, "flows/finetune.py")
    for name, command, more in (("dvc repro", ("-m", "dvc", "repro"), {}), ("flow", flow[1:], running)):
        print(f"{name} imports of {', '.join(HEAVY)}: {', '.join(heavy(real, *command, **more)) or 'none'}", flush=True)
    ways: dict[str, Callable[[], object]] = {
        "dvc repro": lambda: sh(real, "dvc", "repro"),
        "dvc repro, commands `true`": lambda: sh(bare, "dvc", "repro"),
        "flow, server running": lambda: sh(real, *flow, **running),
        "flow, own server": lambda: sh(real, *flow),
    }
    took: dict[str, list[float]] = {name: [] for name in [*ways, "server start"]}
    for number in range(n + 1):  # the first round fills caches and does not count
        for name, way in ways.items():
            took[name] += [seconds(way)] * (number > 0)
        begin = time.perf_counter()
        another = start_server(bare)
        took["server start"] += [time.perf_counter() - begin] * (number > 0)
        another.end()
    server.end()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="noop-") as name:
        folder = Path(name)
        for copy in ("real", "bare"):
            copy_tree(folder / copy)
        make_trivial(folder / "bare")
        for copy in ("real", "bare"):
            if "Running stage" in sh(folder / copy, "dvc", "repro").stdout:
                sys.exit("noop: the working tree is not up to date; run `make run` first")
        took = measure(folder, arguments.n)
    medians = {name: statistics.median(values) for name, values in took.items()}
    print("| | median s | range |\n|---|---|---|")
    for name, values in took.items():
        print(f"| {name} | {medians[name]:.2f} | {min(values):.2f} to {max(values):.2f} |")
    ratio = medians["dvc repro"] / medians["dvc repro, commands `true`"]
    print(f"dvc repro / commands `true`: {ratio:.2f} (aim: at most 1.2)")
    print(f"flow with its own server: {medians['flow, own server']:.2f} s (aim: at most {AIM_S:g} s)")
    sys.exit(ratio > 1.2 or medians["flow, own server"] > AIM_S)


if __name__ == "__main__":
    main()
