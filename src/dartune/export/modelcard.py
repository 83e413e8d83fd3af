"""The model card: what a tuned model is, how it was made and what is known of it, out of the files of the run."""

import json
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from dartune.export.provenance import Run, commits
from dartune.models.checkpoint import SOURCE, open_tokenizer, revision
from dartune.report.report import LEGEND, METHODS, TRAIN, shown, table, verdict
from dartune.report.searches import Searches, comparison
from dartune.tasks.task import Task
from dartune.training.trainers import ONLINE

PROMPT = "prompt.md"  # beside the card
LISTED = ("pool", "score", "sample", "pairs", "rounds", "evaluate", "search")  # stages, with their settings
DOUBTS = {"unclear": "Unclear, neither gain nor loss is shown", "worse": "Worse than the base model"}


def markdown(run: Run, *, is_adapter: bool, merged: str | None) -> str:
    """The card. is_adapter: what is exported is one; merged: the dtype of weights that an adapter was merged into."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, autoescape=False)
    environment.globals |= {"shown": shown, "yaml": yaml, "changed": changed, "legend": LEGEND}
    template = environment.get_template("modelcard.md.jinja")
    return template.render(**content(run, is_adapter), is_adapter=is_adapter, merged=merged) + "\n"


def content(run: Run, is_adapter: bool) -> dict[str, Any]:
    """What the template shows. Every number stands in a file of the run, or is its hash."""
    base, made = base_model(run), training(run)
    method = made["train"]["settings"]["method"]
    found = results(run)
    return {
        "header": header(run.task, base, method, is_adapter),
        "task": Task(run.task),
        "base": base,
        "about_method": METHODS[method],
        "is_online": method in ONLINE,
        **made,
        **found,
        "doubts": [line for where, rows in found["tables"].items() for line in doubts(where, rows)],
        "settings": settings(run),
        "rules": run.figures(f"{run.record('referee').out('data/')}/train.json", "version"),
        "sources": sources(run, made["files"]),
        "revision": revision(run.base),
        "has_template": bool(open_tokenizer(run.tuned).chat_template),
        "prompt_file": PROMPT,
        **commits(run),
    }


def base_model(run: Run) -> dict[str, Any]:
    """{"name", "revision", "is_hub", "is_embedded", "tasks"} of the model that was tuned.

    name: on the Hugging Face Hub, or a folder here. tasks: those that the embedded model knows.
    """
    pointer = run.base / SOURCE
    source: dict[str, Any] = {"model": str(run.base), "revision": None}
    if pointer.exists():
        source = json.loads(pointer.read_text())
    is_hub = source["revision"] is not None and not Path(source["model"]).exists()
    return {
        "name": source["model"] if is_hub else str(Path(source["model"]).resolve()),
        "revision": source["revision"] if is_hub else None,
        "is_hub": is_hub,
        "is_embedded": not pointer.exists(),
        "tasks": run.record("base").settings["base"]["tasks"],
    }


def training(run: Run) -> dict[str, Any]:
    """{"files", "train", "sample", "sheet", "rounds"}: of the training that made the model.

    rounds: what stage rounds measured, None where the model is of the pipeline alone. A later round keeps its files in
    a folder of its own.
    """
    made, rounds = run.maker(str(run.tuned)), None
    files = {
        "pool": run.record("pool").out("data/"),
        "pairs": run.record("pairs").out("data/"),
        "train": run.record("train").out("metrics/"),
        "sample": run.record("sample").out("metrics/", ".json"),
        "sheet": run.record("sample").out("metrics/", ".md"),
    }
    if made.stage == "rounds":
        rounds = run.figures(made.out("metrics/"), "n_rounds", "kept_round", "gates")
        (folder,) = (out for out in made.outs if out != str(run.tuned) and not out.startswith("metrics/"))
        if rounds["kept_round"] > 1:
            names = {"pool": "pool.parquet", "pairs": "pairs.parquet", "train": "train.json"}
            names |= {"sample": "sample.json", "sheet": "sample.md"}
            files = {name: f"{folder}/{rounds['kept_round']}/{file}" for name, file in names.items()}
    return {
        "files": files,
        "train": run.figures(files["train"], *TRAIN),
        "sample": run.figures(files["sample"], "parts", "warnings"),
        "sheet": re.sub(r"^#", "###", run.file(files["sheet"]).read_text().strip(), flags=re.MULTILINE),
        "rounds": rounds,
    }


def results(run: Run) -> dict[str, Any]:
    """{"n_samples", "held_out", "tables"}: rows of base against tuned by split, then by search."""
    splits = run.figures(run.record("evaluate").out("metrics/"))
    searches = run.figures(run.record("search").out("metrics/"))
    tables = {f"split `{split}`": list(table(measured).values()) for split, measured in splits.items()}
    for row in comparison(Searches(searches, {}, {})):
        measured = searches[row["method"]]
        n, n_seeds = measured["n_evaluations"], measured["n_seeds"]
        where = f"search `{row['method']}`, {n} programs, {n_seeds} seed{'s' * (n_seeds > 1)}"
        tables.setdefault(where, []).append({"unit": "quality", **row, "verdict": verdict(row)})
    held_out = next(iter(splits))
    return {"n_samples": splits[held_out]["tuned"]["n_samples"], "held_out": held_out, "tables": tables}


def changed(row: dict[str, Any]) -> str:
    """The difference of a row, with its interval where it has one."""
    if "verdict" not in row:
        return shown(row["change"], row["unit"], signed=True)
    low, high = (shown(row[bound], row["unit"], signed=True) for bound in ("low", "high"))
    interval = "one seed" if row["low"] is None else f"{low}, {high}"
    return f"{shown(row['estimate'], row['unit'], signed=True)} [{interval}]"


def doubts(where: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    """What the figures do not show, or show against the model. No change whatever, as from 1 to 1, is no doubt."""
    differing = [row for row in rows if "verdict" in row and {row["low"], row["high"]} != {0.0}]
    for kind, words in DOUBTS.items():
        if found := [f"{row['label']} {changed(row)}" for row in differing if row["verdict"] == kind]:
            yield f"{words}, {where}: {'; '.join(found)}."


def settings(run: Run) -> dict[str, Any]:
    """The sections of params.yaml that the other stages had; the training's stand in its metrics."""
    found = {name: values for stage in LISTED if run.has(stage) for name, values in run.record(stage).settings.items()}
    return {name: values for name, values in found.items() if "." not in name and name != "train"}


def sources(run: Run, files: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Path and hash of what the model came from and is, by what it is."""
    base, tuned = str(run.base), str(run.tuned)
    paths = {"base model": base, "pool": files["pool"], "pairs": files["pairs"], "tuned model": tuned}
    return {name: (path, run.hash_of(path)) for name, path in paths.items()}


def header(task: str, base: dict[str, Any], method: str, is_adapter: bool) -> dict[str, Any]:
    """The front matter that the Hub reads. No license: the run knows none."""
    known = {"base_model": base["name"], "base_model_relation": "adapter" if is_adapter else "finetune"}
    library = {"library_name": "peft" if is_adapter else "transformers", "pipeline_tag": "text-generation"}
    tags = ["dartune", "algorithm-design", task, "trl", method, *(["lora"] if is_adapter else [])]
    return {**(known if base["is_hub"] else {}), **library, "tags": tags}


def yaml(values: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    stream, writer = StringIO(), YAML()
    writer.default_flow_style = None  # what holds no further lists stands in one line
    writer.width = 110
    writer.dump(values, stream)
    return stream.getvalue().strip()
