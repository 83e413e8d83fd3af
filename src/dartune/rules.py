"""Rules: all that decides a verdict on a task, as small files, one per search method and one for the training.

A pool that a search wrote hangs on its method's file, so DVC knows that another referee means another pool. The file of
`sample` is always {}: what no verdict guided needs no new pool. A training is watched, so it hangs on train.json.
"""

from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from dartune import journal
from dartune.judgement import sources
from dartune.proposal import SAMPLE, methods
from dartune.task import Task

TRAIN = "train"  # no search method has this name


def write_rules(
    task: str, output: Path, *, max_slowdown: PositiveFloat, memory_mib: PositiveInt, cluster: str | None
) -> None:
    """Write <method>.json and train.json: {"version", "max_slowdown", "memory_mib"}, or {} for sampling.

    The section is that of score. cluster is not part of it: it decides no verdict, and a search judges here.
    """
    version = journal.fingerprint(sources(Task(task).name))
    rules = {"version": version, "max_slowdown": max_slowdown, "memory_mib": memory_mib}
    for name in [*methods(), TRAIN]:
        journal.write_json(output / f"{name}.json", {} if name == SAMPLE else rules)
