"""`dartune check` and stage modules: params.yaml as a whole, with its preset and all that it names."""

import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from dartune import params, presets
from dartune.errors import UserError, nearest

OPTIONS = ("tasks", "task_folder", "preset", "methods", "trainers")  # of params.yaml, beside the sections of stages


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
    from dartune.tasks.task import names

    preset = params.preset(params.read(file), file)  # raises where no preset is named
    content, functions = params.everything(file), stages()
    presets.settings(preset.stem, file)
    for name in content:
        if name not in (*OPTIONS, *functions):
            raise UserError(f"{file}: {name!r} is not a stage{nearest(name, functions)}")
    sections = {name: params.section(name, function, file) for name, function in functions.items()}
    check_tasks(content.get("tasks"), content.get("task_folder"), file)
    transferred, known = sections["evaluate"]["transfer"], names()
    check_names("train.probe.remember", sections["train"]["probe"]["remember"], "task", known, file)
    check_names("evaluate.transfer", transferred, "task", known, file)
    check_names("embedded.tasks", sections["embedded"]["tasks"], "task", known, file)
    for key in ("evaluate.held_out", "search.guide", "search.held_out", "train.probe.split"):
        tasks = [*content["tasks"], *(transferred if key == "evaluate.held_out" else ())]
        check_split(tasks, key, sections, file)
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


def check_names(key: str, chosen: Iterable[str], kind: str, known: Collection[str], file: Path) -> None:
    """Raise UserError about a name that is not known or named twice. key: dotted, where it is named. kind: of what."""
    seen = set()
    for name in chosen:
        if name not in known:
            raise UserError(f"{file}: {key}: there is no {kind} {name!r}{nearest(str(name), known)}")
        if name in seen:
            raise UserError(f"{file}: {key}: {name!r} stands there twice")
        seen.add(name)


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
    from dartune.pool import ask_tell, search_loop
    from dartune.referee.ray_pool import check_address
    from dartune.tasks.forms import check_form
    from dartune.training import trainers
    from dartune.training.train import refuse_contradictions

    chosen = {"methods": methods or (), "pool.method": [sections["pool"]["method"]]}
    for key, named in (chosen | {"search.methods": sections["search"]["methods"]}).items():
        check_names(key, named, "search method", ask_tell.methods(), file)
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
    if sections["base"]["model"] != EMBEDDED:
        check_model(sections["base"]["model"], sections["base"]["revision"])
    if sections["score"]["cluster"] is not None:
        check_address(sections["score"]["cluster"])


def check_writers(sections: dict[str, dict[str, Any]]) -> None:
    """Raise UserError about what is to write a pool, or for base and tuned model: a preset's model, or a server."""
    from dartune.base_model.base import EMBEDDED, write_base
    from dartune.models.checkpoint import check_model
    from dartune.models.openai_backend import open_server
    from dartune.pool.pool import SOURCES, search_seeds

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
    elif source != Path("models/base") and not source.exists():  # which its stage writes
        raise UserError(f"pool.source: there is no {source}; expected {SOURCES}")
    for file in filter(None, files):
        open_server(Path(file))
