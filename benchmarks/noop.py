"""What a run costs where everything is up to date: DVC, DVC with `true` as commands, and the flow.

`make bench-noop`, in a tree that is up to date. Each is run in turn on copies; medians and ranges of --n runs. DVC runs
no command where nothing changed, so the first ratio shows what is left: the longer lines of commands, no more. The
copies have the same stages, dependencies, parameters and outputs.
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

HEAVY = ("torch", "transformers", "trl", "duckdb", "pyarrow")


def copied(folder: Path) -> None:
    """The working tree as it is, with data and models, and with hashes known to DVC."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    made = ("data", "models", "report", ".dvc/cache")
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(made):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in made:
        shutil.copytree(ROOT / name, folder / name)
    sh(folder, "git", "init", "-q")


def trivial(folder: Path) -> None:
    """Every command becomes `true`, and what there is is committed as its result."""
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


def started(folder: Path) -> Server:
    with chdir(folder):
        server = Server()
        server.wait()
        return server


def heavy(folder: Path, *command: str, **more: str) -> list[str]:
    """Which of HEAVY a command imports."""
    times = sh(folder, sys.executable, "-X", "importtime", *command, **more).stderr
    found = {name.split(".")[0] for name in re.findall(r"\| +([\w.]+)$", times, re.MULTILINE)}
    return sorted(found.intersection(HEAVY))


def measure(folder: Path, n: int) -> dict[str, list[float]]:
    real, bare = folder / "real", folder / "bare"
    server = started(real)
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
    found: dict[str, list[float]] = {name: [] for name in [*ways, "server start"]}
    for number in range(n + 1):  # the first round fills caches and does not count
        for name, way in ways.items():
            found[name] += [seconds(way)] * (number > 0)
        begin = time.perf_counter()
        another = started(bare)
        found["server start"] += [time.perf_counter() - begin] * (number > 0)
        another.end()
    server.end()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="noop-") as name:
        folder = Path(name)
        for copy in ("real", "bare"):
            copied(folder / copy)
        trivial(folder / "bare")
        for copy in ("real", "bare"):
            if "Running stage" in sh(folder / copy, "dvc", "repro").stdout:
                sys.exit("noop: the working tree is not up to date; run `make run` first")
        found = measure(folder, given.n)
    medians = {name: statistics.median(values) for name, values in found.items()}
    print("| | median s | range |\n|---|---|---|")
    for name, values in found.items():
        print(f"| {name} | {medians[name]:.2f} | {min(values):.2f} to {max(values):.2f} |")
    ratio = medians["dvc repro"] / medians["dvc repro, commands `true`"]
    allowed = medians["dvc repro"] + medians["server start"]
    print(f"dvc repro / commands `true`: {ratio:.2f} (aim: at most 1.2)")
    print(f"flow with its own server: {medians['flow, own server']:.2f} s (aim: at most {allowed:.2f} s)")
    sys.exit(ratio > 1.2 or medians["flow, own server"] > allowed)


if __name__ == "__main__":
    main()
