"""A Git and DVC repository of five toy stages without a model, with this project's flow: seconds.

For tests of what runs stages. For tests of what the stages themselves do together take project_copy.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

FLOWS = Path(__file__).resolve().parent.parent / "flows"

DVC_YAML = """\
stages:
  base:
    cmd: python stage.py base base.txt
    deps: [stage.py]
    params: [base]
    outs: [base.txt]
  pool:
    matrix: {task: [a, b]}
    cmd: python stage.py pool pool-${item.task}.txt base.txt
    deps: [stage.py, base.txt]
    params: [pool]
    outs: ["pool-${item.task}.txt"]
  train:
    cmd: python stage.py train train.txt pool-a.txt
    deps: [stage.py, pool-a.txt]
    params: [train]
    outs: [train.txt]
  report:
    cmd: python stage.py report report.json train.txt
    deps: [stage.py, train.txt]
    metrics: [{report.json: {cache: false}}]
"""

PARAMS = """\
# comments, lists, quotes and nulls must survive an override
base: {size: 3}
pool:
  n: 2  # programs
  lengths: [1, 2]
train:
  beta: 0.1
  loss: "dpo"
  lora: null  # or {r: 16}
  hang: false
"""

# pool@a takes longer than pool@b, so that two workers finish them in the order that is not the graph's. A stage that
# hangs (for 300 s, or as many as are given) ignores SIGTERM and has a grandchild in a session of its own; their ids
# are in pids.txt.
STAGE = """\
import json, os, signal, subprocess, sys, time
from pathlib import Path
from ruamel.yaml import YAML

name, out, *needs = sys.argv[1:]
params = YAML(typ="safe").load(Path("params.yaml")).get(name, {})
Path("ran.log").open("a").write(out + "\\n")
print(f"{name}: 1 of 1", flush=True)
if params.get("hang"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    other = subprocess.Popen(["sleep", "300"], start_new_session=True)
    Path("pids.part").write_text(f"{os.getpid()} {other.pid}")
    Path("pids.part").rename("pids.txt")
    time.sleep(params["hang"] if params["hang"] is not True else 300)
if params.get("n") == 0:
    print("pool: 0 programs were asked for; at least 1 is expected. Raise pool.n.", file=sys.stderr)
    sys.exit(1)
time.sleep(1 if out == "pool-a.txt" else 0)
text = " ".join([name, str(params), *(Path(need).read_text() for need in needs)])
Path(out).write_text(json.dumps({"length": len(text)}) if out.endswith(".json") else text)
"""


def sh(*command: str, cwd: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, env=os.environ | {"PATH": path})


def make_toy(root: Path) -> Path:
    """The toy repository before anything has run, committed."""
    shutil.copytree(FLOWS, root / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in {"dvc.yaml": DVC_YAML, "params.yaml": PARAMS, "stage.py": STAGE}.items():
        (root / name).write_text(text)
    (root / ".gitignore").write_text("/.prefect/\n/.work/\n/ran.log\n/pids.*\n__pycache__/\n")
    sh("git", "init", "-q", cwd=root)
    sh("git", "config", "user.name", "toy", cwd=root)
    sh("git", "config", "user.email", "toy@localhost", cwd=root)
    sh("dvc", "init", "-q", cwd=root)
    sh("dvc", "config", "core.analytics", "false", cwd=root)
    sh("git", "add", "-A", cwd=root)
    sh("git", "commit", "-qm", "toy", cwd=root)
    return root


def gone(pids: list[int], within_s: float) -> bool:
    """Whether the processes end within so many seconds."""
    end = time.monotonic() + within_s
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def load(root: Path) -> Any:
    """The flow's module from the copy in `root`, which it takes for its repository."""
    spec = importlib.util.spec_from_file_location(f"finetune_{abs(hash(root))}", root / "flows/finetune.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Prefect looks the flow's annotations up there
    sys.path.insert(0, str(FLOWS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FLOWS))
    return module


def run(root: Path, **parameters: Any) -> Any:
    """The state of a run of the flow in this process."""
    return load(root).finetune(**parameters, return_state=True)


def ran(root: Path) -> list[str]:
    """The outputs of the stages whose commands ran, sorted."""
    return sorted((root / "ran.log").read_text().split())


def stages(state: Any, n: int = 5) -> dict[str, str]:
    """The name of every task run's state, as the server has it."""
    return {stage: name for stage, (name, _) in states_and_messages(state, n).items()}


def states_and_messages(state: Any, n: int) -> dict[str, tuple[str, str | None]]:
    """The state of each of n task runs, as the server has it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    this = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    deadline = time.monotonic() + 10
    while True:  # the server learns of task runs from events, a moment after the run
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(flow_run_filter=this)
        if (len(runs) == n and all(run.state_name != "Running" for run in runs)) or time.monotonic() > deadline:
            return {run.name: (str(run.state_name), (run.state and run.state.message) or None) for run in runs}
        time.sleep(0.1)


def edit(root: Path, old: str, new: str) -> None:
    """Replace a text in params.yaml."""
    text = (root / "params.yaml").read_text()
    assert old in text
    (root / "params.yaml").write_text(text.replace(old, new))


def wait_for(file: Path, within_s: float = 60) -> str:
    """The content of a file, when it exists."""
    end = time.monotonic() + within_s
    while not file.exists():
        assert time.monotonic() < end, f"{file.name} was not written"
        time.sleep(0.05)
    return file.read_text()
