"""The model card: what a tuned model is, how it was trained and how good it is, from the files of its run."""

import json
import re
from pathlib import Path
from typing import Any

from dartune.export.provenance import Run, first_commit, git
from dartune.files.templates import render
from dartune.models.checkpoint import SOURCE, open_tokenizer, pretrained_arguments, revision
from dartune.report.table import LEGEND, in_unit, metric_rows, search_rows
from dartune.report.training import about, as_yaml
from dartune.tasks.task import Task
from dartune.training.trainers import ONLINE

PROMPT = "prompt.md"  # beside the card


def model_card(run: Run, base: Path, tuned: Path, *, is_adapter: bool, merged: str | None) -> str:
    """Return the card as Markdown, with the front matter that the Hub reads.

    base, tuned: folders of the models. is_adapter: an adapter is exported, not whole weights. merged: the dtype of
    weights that an adapter was merged into. Raises UserError where a file of the run is missing or was changed.
    """
    model, trained = base_model(base), training(run)
    method, files = trained["train"]["settings"]["method"], trained["files"]
    sources = {"base model": str(base), "pool": files["pool"], "pairs": files["pairs"], "tuned model": str(tuned)}
    card = render(
        Path(__file__).parent / "modelcard.md.jinja",
        filters={"in_unit": in_unit, "yaml": as_yaml, "change": change_text},
        **trained,
        **comparison(run),
        header=front_matter(run.task, model, method, is_adapter),
        task=Task(run.task),
        base=model,
        about_method=about(trained["train"]),
        is_online=method in ONLINE,
        settings={name: values for name, values in run.settings().items() if "." not in name and name != "train"},
        judged_by=run.metrics(f"data/referee/{run.task}/train.json"),
        sources={name: (path, run.hash_of(path)) for name, path in sources.items()},
        commit=first_commit(run.hash_of(str(tuned))),
        head=git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
        revision=revision(base),
        has_template=bool(open_tokenizer(tuned).chat_template),
        prompt_file=PROMPT,
        legend=LEGEND,
        is_adapter=is_adapter,
        merged=merged,
    )
    return card + "\n"


def base_model(base: Path) -> dict[str, Any]:
    """Return {"name", "revision", "is_hub", "is_embedded"} of the model that was tuned.

    name: on the Hugging Face Hub, else a folder here; only a model on the Hub has a revision.
    """
    source = pretrained_arguments(base)
    name, commit = source["pretrained_model_name_or_path"], source.get("revision")
    is_hub = commit is not None and not Path(name).exists()
    return {
        "name": name if is_hub else source_name(base) or str(Path(name).resolve()),
        "revision": commit if is_hub else None,
        "is_hub": is_hub,
        "is_embedded": not (base / SOURCE).exists(),
    }


def source_name(base: Path) -> str | None:
    """Return the name of a fetched model or the path of a GGUF file, as params have it; None for other models."""
    source = json.loads((base / SOURCE).read_text()) if (base / SOURCE).exists() else {}
    return str(source["model"]) if source.get("weights", "as they are") != "as they are" else None


def training(run: Run) -> dict[str, Any]:
    """Return {"files", "train", "sample", "sheet", "rounds"} of the training that made the model.

    files: paths by what they are; a later round has its files in a folder of the round.
    """
    rounds, task = run.metrics(f"metrics/rounds/{run.task}.json"), run.task
    if rounds["kept_round"] > 1:
        folder = f"data/rounds/{task}/{rounds['kept_round']}"
        files = {name: f"{folder}/{name}.parquet" for name in ("pool", "pairs")}
        files |= {"train": f"{folder}/train.json", "sample": f"{folder}/sample.json", "sheet": f"{folder}/sample.md"}
    else:
        files = {name: f"data/{name}/{task}.parquet" for name in ("pool", "pairs")}
        files |= {name: f"metrics/{name}/{task}.json" for name in ("train", "sample")}
        files |= {"sheet": f"metrics/sample/{task}.md"}
    return {
        "files": files,
        "train": run.metrics(files["train"]),
        "sample": run.metrics(files["sample"]),
        "sheet": re.sub(r"^#", "###", run.file(files["sheet"]).read_text().strip(), flags=re.MULTILINE),
        "rounds": rounds,
    }


def comparison(run: Run) -> dict[str, Any]:
    """Return {"n_samples", "held_out", "tables"}: rows of base against tuned by split, then by search."""
    splits, searches = (run.metrics(f"metrics/{stage}/{run.task}.json") for stage in ("evaluate", "search"))
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


def front_matter(task: str, base: dict[str, Any], method: str, is_adapter: bool) -> str:
    """Return the front matter that the Hub reads, as YAML. No license: the run knows none."""
    from huggingface_hub import ModelCardData

    relation = {"base_model": base["name"], "base_model_relation": "adapter" if is_adapter else "finetune"}
    return ModelCardData(
        **(relation if base["is_hub"] else {}),
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["dartune", "algorithm-design", task, "trl", method, *(["lora"] if is_adapter else [])],
    ).to_yaml()
