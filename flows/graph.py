"""What DVC knows of the pipeline: its graph, which stages are stale, what the metrics were. There is no second graph.

`dvc.repo.reproduce` is not public: requirements.in pins DVC exactly.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.utils.serialize import dumps_yaml, parse_yaml, parse_yaml_for_update

from atomic_dvc import atomic_write
from dartune.errors import UserError

AND_THEN = "and run again: what it lacks is taken from DVC's cache or made"


class Step(NamedTuple):
    """A stage of the plan."""

    stage: str
    needs: list[str]  # the stages that it depends on
    is_stale: bool  # DVC has to look at it: it changed, or a stage before it may
    nested: list[str]  # if stale: outputs inside folders that it reads; `dvc repro --pull` does not fetch these


def reproduction_order(repo: Any, graph: Any, targets: list[str]) -> list[Any]:
    """Return the targets (every stage, if none is named) and what they need, in the order of `dvc repro`."""
    # The index holds what DVC would collect for "dvc.yaml", without reading it and dvc.lock once more.
    return list(plan_repro(graph, collect_stages(repo, targets) if targets else list(repo.index.stages)))


def plan(targets: list[str]) -> list[Step]:
    """Return the steps to the targets (to every stage, if none is named), each after those that it needs.

    Raises DvcException for an unknown target or a dvc.yaml that DVC cannot read.
    """
    with Repo(_wait_for_lock=True) as repo, repo.lock:
        graph = get_active_graph(repo.index.graph)
        stale = {name for stage in repo.index.stages for name in stage.status(check_updates=True)}
        steps = []
        for stage in reproduction_order(repo, graph, targets):
            needs = [need.addressing for need in graph.successors(stage)]
            if not stale.isdisjoint(needs):
                stale.add(stage.addressing)
            is_stale = stage.addressing in stale
            steps.append(Step(stage.addressing, needs, is_stale, nested_outputs(repo, stage) if is_stale else []))
        return steps


def nested_outputs(repo: Any, stage: Any) -> list[str]:
    """Return the cached outputs of other stages that lie in folders which this stage reads."""
    folders = [Path(dep.fs_path) for dep in stage.deps]
    outputs = [Path(out.fs_path) for out in repo.index.outs if out.use_cache]
    return [str(output) for output in outputs if any(folder in output.parents for folder in folders)]


def check_remote() -> None:
    """Raise UserError where DVC has no default remote."""
    with Repo() as repo:
        if not repo.config["core"].get("remote"):
            raise UserError("push, pull: DVC has no default remote; name one: `dvc remote add --default NAME URL`")


def explained(error: DvcException) -> str:
    """Return DVC's message in one line, and what to do where it cannot read dvc.lock."""
    message, file = " ".join(str(error).split()), Path("dvc.lock")
    if file.name not in message or not file.exists():
        return message
    if re.search(r"^(<<<<<<<|>>>>>>>) ", file.read_text(errors="replace"), re.MULTILINE):
        return f"dvc.lock: there is a merge conflict in it; `git checkout --ours dvc.lock`, or --theirs, {AND_THEN}"
    return f"dvc.lock: DVC cannot read it ({message}); `git checkout dvc.lock`, for the committed one, {AND_THEN}"


def locked_stages() -> list[str]:
    """Return the names of the stages in dvc.lock, in its order."""
    file = Path("dvc.lock")
    return list(parse_yaml(file.read_text(), "dvc.lock").get("stages") or {}) if file.exists() else []


def sort_lock(before: list[str]) -> None:
    """Give dvc.lock the order, and so the bytes, that `dvc repro` writes: here, stages end in any order.

    before: locked_stages() before the run. They stay where they were; the others follow in the order of the graph.
    """
    file = Path("dvc.lock")
    if not file.exists():
        return
    with Repo(_wait_for_lock=True) as repo, repo.lock:
        stages = reproduction_order(repo, get_active_graph(repo.index.graph), [])
        lock = parse_yaml_for_update(file.read_text(), "dvc.lock")
        order = dict.fromkeys([*before, *(stage.addressing for stage in stages), *lock["stages"]])
        names = [name for name in order if name in lock["stages"]]
        if names != list(lock["stages"]):
            lock["stages"] = {name: lock["stages"][name] for name in names}
            with atomic_write(file) as stream:
                stream.write(dumps_yaml(lock))


def files_for_git() -> list[str]:
    """Return the existing files that a run writes and git keeps: dvc.lock and outputs outside DVC's cache."""
    with Repo() as repo:
        paths = ["dvc.lock", *(out.fs_path for out in repo.index.outs if not out.use_cache)]
    return [path for path in paths if Path(path).exists()]


def metric_changes() -> list[list[str]]:
    """Return the rows (metric, in the last commit, now, difference) of `dvc metrics diff`; "" for what is not there."""
    with Repo(_wait_for_lock=True) as repo:
        files = repo.metrics.diff().get("diff", {})
    rows = [
        [name, *(shown(change.get(key)) for key in ("old", "new", "diff"))]
        for metrics in files.values()
        for name, change in metrics.items()
    ]
    return sorted(rows)


def shown(value: Any) -> str:
    """Return a metric as text, without the last digits of a difference between two floats."""
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
