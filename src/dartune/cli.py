"""The `dartune` command: what can be asked without running a stage."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dartune import params
from dartune.mistake import Mistake, nearest, one_line


def stages() -> dict[str, Callable[..., Any]]:
    """The function behind each stage, by the stage's name: its keyword-only arguments are the section's schema."""
    from dartune.embedded import make_base
    from dartune.evaluation import write_evaluation
    from dartune.pairs import write_pairs
    from dartune.pool import write_pool
    from dartune.report import write_report
    from dartune.sampling import write_sample
    from dartune.scoring import write_scored
    from dartune.training import write_tuned

    return {
        "base": make_base,
        "pool": write_pool,
        "score": write_scored,
        "sample": write_sample,
        "pairs": write_pairs,
        "train": write_tuned,
        "evaluate": write_evaluation,
        "report": write_report,
    }


def check(file: Path = params.FILE) -> dict[str, Any]:
    """The checked content of params.yaml, or a Mistake about the first thing in it that no run could do."""
    content = params.read(file)
    functions = stages()
    for name in content:
        if name != "tasks" and name not in functions:
            raise Mistake(f"{file}: {name!r} is not a stage{nearest(name, functions)}")
    sections = {name: params.section(name, function, file) for name, function in functions.items()}
    check_tasks(content.get("tasks"), sections["evaluate"]["held_out"], file)
    check_fit(sections, file)
    return {"tasks": content["tasks"], **sections}


def check_tasks(tasks: Any, held_out: str, file: Path) -> None:
    from dartune.task import Task

    if not isinstance(tasks, list) or not tasks or len(set(map(str, tasks))) < len(tasks):
        raise Mistake(f"{file}: tasks is {tasks!r}; expected a list of different names, at least one")
    for name in tasks:
        splits = Task(str(name)).splits
        if held_out not in splits or held_out == "train":
            known = nearest(held_out, [split for split in splits if split != "train"])
            raise Mistake(f"{file}: evaluate.held_out is {held_out!r}, which {name} does not hold out{known}")


def check_fit(sections: dict[str, dict[str, Any]], file: Path) -> None:
    """What no single value shows."""
    from dartune.checkpoint import check_exists
    from dartune.embedded import EMBEDDED
    from dartune.sampling import check_strategy

    sample, train = sections["sample"], sections["train"]
    check_strategy(sample["strategy"])
    if sample["gap"] >= sample["n_subsets"]:
        raise Mistake(
            f"{file}: sample.gap is {sample['gap']}; it must be below sample.n_subsets, {sample['n_subsets']}"
        )
    if len(train["loss_type"]) != len(train["loss_weights"]):
        raise Mistake(
            f"{file}: train.loss_weights has {len(train['loss_weights'])} values; one per loss_type is needed"
        )
    if sections["base"]["model"] != EMBEDDED:
        check_exists(sections["base"]["model"], sections["base"]["revision"])


def list_tasks() -> None:
    """Print each task with its function, direction, splits and references."""
    from dartune.task import Task, names

    for name in names():
        task = Task(name)
        print(f"{name}: {task.referee.DIRECTION} {task.referee.OBJECTIVE}\n  {task.signature}")
        for split in task.splits:
            n = len(task.instances(split)) if not split.startswith("large") else 1
            print(f"  {split:<13} {n:>3} instances, reference {task.reference(split):.4f}")


@one_line
def main() -> None:
    parser = argparse.ArgumentParser(prog="dartune", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("check", help="check params.yaml before a run: names, types, models, tasks")
    commands.add_parser("tasks", help="list the tasks with their functions, splits and references")
    if parser.parse_args().command == "tasks":
        list_tasks()
    else:
        content = check()
        print(f"params.yaml: {len(content) - 1} sections and {len(content['tasks'])} tasks are in order")


if __name__ == "__main__":
    main()
