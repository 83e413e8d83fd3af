"""What DVC knows of the pipeline: its graph, what is out of date, what the metrics were. No second graph.

What comes from `dvc.repo.reproduce` is no public interface, which is why requirements.in pins DVC exactly.
"""

from pathlib import Path
from typing import Any, NamedTuple

from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.utils.serialize import modify_yaml, parse_yaml

from dartune.errors import UserError
from whole import mend

mend()  # sort_lock writes dvc.lock too


class Step(NamedTuple):
    stage: str
    needs: list[str]
    stale: bool  # DVC has to look at it: it changed, or something before it may
    inside: list[
        str
    ]  # if stale, others' outputs in folders that it reads: of such a folder DVC by itself pulls nothing


def in_order(repo: Any, graph: Any, targets: list[str]) -> list[Any]:
    """The targets and what they need, in the order in which `dvc repro` visits them."""
    # What the index holds is what DVC would collect for "dvc.yaml", without reading that and dvc.lock once more.
    return list(plan_repro(graph, collect_stages(repo, targets) if targets else list(repo.index.stages)))


def plan(targets: list[str]) -> list[Step]:
    """The steps to the targets (to every stage, if none is named), each after those that it needs."""
    with Repo(_wait_for_lock=True) as repo, repo.lock:
        graph = get_active_graph(repo.index.graph)
        stale = {name for stage in repo.index.stages for name in stage.status(check_updates=True)}
        steps = []
        for stage in in_order(repo, graph, targets):
            needs = [need.addressing for need in graph.successors(stage)]
            if not stale.isdisjoint(needs):
                stale.add(stage.addressing)
            is_stale = stage.addressing in stale
            steps.append(Step(stage.addressing, needs, is_stale, inside(repo, stage) if is_stale else []))
        return steps


def inside(repo: Any, stage: Any) -> list[str]:
    kept = [Path(out.fs_path) for out in repo.index.outs if out.use_cache]
    folders = [Path(dep.fs_path) for dep in stage.deps]
    return [str(out) for out in kept if any(folder in out.parents for folder in folders)]


def refuse_unknown(targets: list[str]) -> None:
    """DVC's error for a name that no stage has. Unlike plan, this may look while a run writes."""
    with Repo() as repo:
        in_order(repo, get_active_graph(repo.index.graph), targets)


def sort_lock() -> None:
    """Gives dvc.lock the order, and so the bytes, that `dvc repro` writes: here, stages end in any order."""
    if not Path("dvc.lock").exists():
        return
    with Repo(_wait_for_lock=True) as repo, repo.lock:
        stages = in_order(repo, get_active_graph(repo.index.graph), [])
        place = {stage.addressing: i for i, stage in enumerate(stages)}
        found = list(parse_yaml(Path("dvc.lock").read_text(), "dvc.lock")["stages"])
        ordered = sorted(found, key=lambda stage: place.get(stage, len(place)))
        if found != ordered:
            with modify_yaml("dvc.lock") as lock:
                lock["stages"] = {stage: lock["stages"][stage] for stage in ordered}


def refuse_no_remote() -> None:
    with Repo() as repo:
        if not repo.config["core"].get("remote"):
            raise UserError("push, pull: DVC has no default remote; name one: `dvc remote add --default NAME URL`")


def in_git() -> list[str]:
    """What a run writes and git keeps: dvc.lock, and outputs that are not in DVC's cache, metrics and plots mostly."""
    with Repo() as repo:
        paths = ["dvc.lock", *(out.fs_path for out in repo.index.outs if not out.use_cache)]
    return [path for path in paths if Path(path).exists()]


def metric_changes() -> list[list[str]]:
    """Rows (file, metric, in the last commit, now, difference) of what `dvc metrics diff` shows."""
    with Repo(_wait_for_lock=True) as repo:
        found = repo.metrics.diff().get("diff", {})
    return [
        [path, name, *(str(change.get(key, "")) for key in ("old", "new", "diff"))]
        for path, metrics in found.items()
        for name, change in metrics.items()
    ]
