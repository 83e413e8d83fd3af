"""The model card: what a tuned model is, how it was trained and how good it is, from the files of its run."""

import json
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from dartune.export.provenance import Run, commits
from dartune.files.templates import render
from dartune.models.checkpoint import SOURCE, open_tokenizer, revision
from dartune.report.searches import search_rows
from dartune.report.table import LEGEND, in_unit, metric_rows
from dartune.report.training import METHODS, TRAIN_KEYS
from dartune.tasks.task import Task
from dartune.training.trainers import ONLINE

PROMPT = "prompt.md"  # beside the card
LISTED = ("pool", "score", "sample", "pairs", "rounds", "evaluate", "search")  # stages, with their settings
DOUBTS = {"unclear": "Unclear, neither gain nor loss is shown", "worse": "Worse than the base model"}


def model_card(run: Run, *, is_adapter: bool, merged: str | None) -> str:
    """Return the card as Markdown, with the front matter that the Hub reads.

    is_adapter: an adapter is exported, not whole weights. merged: the dtype of weights that an adapter was merged into.
    Raises UserError where a file of the run is missing or was changed.
    """
    base, trained, compared = base_model(run), training(run), comparison(run)
    method = trained["train"]["settings"]["method"]
    card = render(
        Path(__file__).parent / "modelcard.md.jinja",
        filters={"in_unit": in_unit, "yaml": yaml, "change": change_text},
        **trained,
        **compared,
        **commits(run),
        header=front_matter(run.task, base, method, is_adapter),
        task=Task(run.task),
        base=base,
        about_method=METHODS[method],
        is_online=method in ONLINE,
        doubts=[line for title, rows in compared["tables"].items() for line in doubts(title, rows)],
        settings=settings(run),
        judged_by=run.metrics(f"{run.record('referee').out('data/')}/train.json", "version"),
        sources=sources(run, trained["files"]),
        revision=revision(run.base),
        has_template=bool(open_tokenizer(run.tuned).chat_template),
        prompt_file=PROMPT,
        legend=LEGEND,
        is_adapter=is_adapter,
        merged=merged,
    )
    return card + "\n"


def base_model(run: Run) -> dict[str, Any]:
    """Return {"name", "revision", "is_hub", "is_embedded", "tasks"} of the model that was tuned.

    name: on the Hugging Face Hub, else a folder here. tasks: those that the embedded model knows.
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
    """Return {"files", "train", "sample", "sheet", "rounds"} of the training that made the model.

    files: paths by what they are. rounds: what stage rounds measured, None where the model is that of stage train. A
    later round has its files in a folder of the round.
    """
    maker, rounds = run.maker(str(run.tuned)), None
    files = {
        "pool": run.record("pool").out("data/"),
        "pairs": run.record("pairs").out("data/"),
        "train": run.record("train").out("metrics/"),
        "sample": run.record("sample").out("metrics/", ".json"),
        "sheet": run.record("sample").out("metrics/", ".md"),
    }
    if maker.stage == "rounds":
        rounds = run.metrics(maker.out("metrics/"), "n_rounds", "kept_round", "gates")
        (folder,) = (out for out in maker.outs if out != str(run.tuned) and not out.startswith("metrics/"))
        if rounds["kept_round"] > 1:
            names = {"pool": "pool.parquet", "pairs": "pairs.parquet", "train": "train.json"}
            names |= {"sample": "sample.json", "sheet": "sample.md"}
            files = {name: f"{folder}/{rounds['kept_round']}/{file}" for name, file in names.items()}
    return {
        "files": files,
        "train": run.metrics(files["train"], *TRAIN_KEYS),
        "sample": run.metrics(files["sample"], "parts", "warnings"),
        "sheet": re.sub(r"^#", "###", run.file(files["sheet"]).read_text().strip(), flags=re.MULTILINE),
        "rounds": rounds,
    }


def comparison(run: Run) -> dict[str, Any]:
    """Return {"n_samples", "held_out", "tables"}: rows of base against tuned by split, then by search."""
    splits = run.metrics(run.record("evaluate").out("metrics/"))
    searches = run.metrics(run.record("search").out("metrics/"))
    tables = {f"split `{split}`": list(metric_rows(measured).values()) for split, measured in splits.items()}
    for row in search_rows(searches):
        n, n_seeds = (searches[row["method"]][key] for key in ("n_evaluations", "n_seeds"))
        title = f"search `{row['method']}`, {n} programs, {n_seeds} seed{'s' * (n_seeds > 1)}"
        tables.setdefault(title, []).append({"unit": "quality", **row})
    held_out = next(iter(splits))
    return {"n_samples": splits[held_out]["tuned"]["n_samples"], "held_out": held_out, "tables": tables}


def change_text(row: dict[str, Any]) -> str:
    """Return the difference of a row, with its interval where it has one."""
    if "significance" not in row:
        return in_unit(row["change"], row["unit"], is_difference=True)
    estimate, *bounds = (in_unit(row[key], row["unit"], is_difference=True) for key in ("estimate", "low", "high"))
    return f"{estimate} [{'one seed' if row['low'] is None else ', '.join(bounds)}]"


def doubts(title: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a sentence about a table's unclear metrics and one about the worse; a change of exactly 0 is neither."""
    changed = [row for row in rows if "significance" in row and {row["low"], row["high"]} != {0.0}]
    for kind, words in DOUBTS.items():
        if texts := [f"{row['label']} {change_text(row)}" for row in changed if row["significance"] == kind]:
            yield f"{words}, {title}: {'; '.join(texts)}."


def settings(run: Run) -> dict[str, Any]:
    """Return the sections of params.yaml of all stages but train, whose settings are in its metrics."""
    sections = {
        name: values for stage in LISTED if run.has(stage) for name, values in run.record(stage).settings.items()
    }
    return {name: values for name, values in sections.items() if "." not in name and name != "train"}


def sources(run: Run, files: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return the path and hash of the model and of its inputs, by what they are."""
    base, tuned = str(run.base), str(run.tuned)
    paths = {"base model": base, "pool": files["pool"], "pairs": files["pairs"], "tuned model": tuned}
    return {name: (path, run.hash_of(path)) for name, path in paths.items()}


def front_matter(task: str, base: dict[str, Any], method: str, is_adapter: bool) -> dict[str, Any]:
    """Return the front matter that the Hub reads. No license: the run knows none."""
    known = {"base_model": base["name"], "base_model_relation": "adapter" if is_adapter else "finetune"}
    library = {"library_name": "peft" if is_adapter else "transformers", "pipeline_tag": "text-generation"}
    tags = ["dartune", "algorithm-design", task, "trl", method, *(["lora"] if is_adapter else [])]
    return {**(known if base["is_hub"] else {}), **library, "tags": tags}


def yaml(values: dict[str, Any]) -> str:
    """Return the values as YAML; the innermost dictionaries and lists on one line each."""
    from ruamel.yaml import YAML

    stream, writer = StringIO(), YAML()
    writer.default_flow_style = None
    writer.width = 110
    writer.dump(values, stream)
    return stream.getvalue().strip()
