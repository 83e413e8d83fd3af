"""Evaluation: base and tuned model write programs to the same prompt; the referee judges them on held-out instances."""

import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune.evaluation.statistics import difference, figures
from dartune.files import atomic, batches, parquet
from dartune.files.fingerprint import fingerprint
from dartune.files.modules import code_fingerprint
from dartune.models.backend import Decoding, start_seed
from dartune.models.checkpoint import revision
from dartune.programs.verdict import Verdict
from dartune.referee.completions import PROGRAM_SCHEMA, judge, template_score
from dartune.referee.referee import Referee, code_version
from dartune.tasks.task import Task

BATCH = 200
WRITTEN = pa.schema(
    [
        ("completion", pa.string()),
        ("n_prompt_tokens", pa.int64()),
        ("n_tokens", pa.int64()),
        ("finish", pa.string()),
    ]
)
ROW = pa.schema(
    [
        ("model", pa.string()),
        ("sample", pa.int64()),
        ("split", pa.string()),
        *WRITTEN,
        *PROGRAM_SCHEMA,
        ("quality", pa.float64()),
        ("gap", pa.float64()),
    ]
)


def write_evaluation(
    task: str,
    base: Path,
    tuned: Path,
    output: Path,
    metrics: Path,
    *,
    n_samples: PositiveInt,
    batch_size: PositiveInt,
    seed: NonNegativeInt,
    temperature: PositiveFloat,
    top_p: Annotated[float, Field(gt=0, le=1)],
    max_new_tokens: PositiveInt,
    held_out: str,
    with_shifted: bool,
    max_slowdown: PositiveFloat,
    memory_mib: PositiveInt,
    cluster: str | None,
) -> None:
    """Write one row per model, sample and split: program, status, reason, score, quality, gap, costs, behaviour.

    n_samples: completions per model. held_out: the split to judge on, "validation" while settings are chosen, "test"
    for results. with_shifted: judge on the size-shifted splits too. max_slowdown,
    memory_mib, cluster: see Referee.
    """
    decoding = Decoding(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    this = Task(task)
    completions = {
        name: written(task, name, base, folder, n_samples, batch_size, seed, decoding)
        for name, folder in (("base", None), ("tuned", tuned))
    }
    splits = [held_out, *(this.shifted if with_shifted else ())]
    limits = {"max_slowdown": max_slowdown, "memory_mib": memory_mib, "cluster": cluster}
    table = pa.concat_tables([judged(this, split, completions, limits) for split in splits])
    templates = {split: template(this, split, limits) for split in splits}
    parquet.write(table, output)
    atomic.write_json(metrics, {split: compare(table, split, templates[split], seed) for split in splits})
    shutil.rmtree(batches.WORK / "evaluate" / task)


def written(
    task: str,
    name: str,
    base: Path,
    tuned: Path | None,
    n_samples: int,
    batch_size: int,
    seed: int,
    decoding: Decoding,
) -> pa.Table:
    """n_samples completions of one of the two models: WRITTEN."""
    prompt = Task(task).prompt
    weights = [tuned] if tuned else []
    settings = {
        "prompt": prompt,
        "model": revision(base),
        "seed": seed,
        "batch_size": batch_size,
        "decoding": decoding,
        "columns": WRITTEN.names,
    }
    key = fingerprint(weights, code=code_fingerprint(__name__), **settings)
    output = batches.WORK / "evaluate" / task / f"{name}-{key}-{n_samples}.parquet"
    if output.exists():
        return parquet.read(output)
    from dartune.models.transformers_backend import TransformersBackend

    backend = TransformersBackend(base, tuned)

    def batch(rows: range) -> pa.Table:
        first = start_seed("evaluate", name, task, seed, rows.start)
        answers = backend.complete([prompt] * len(rows), seed=first, decoding=decoding)
        return pa.Table.from_pylist([{"completion": answer.text, **vars(answer)} for answer in answers], schema=WRITTEN)

    return batches.run(f"evaluate {task} {name}", key, n_samples, batch_size, batch, output)


def judged(task: Task, split: str, completions: dict[str, pa.Table], limits: dict[str, Any]) -> pa.Table:
    """The verdicts on all completions of both models on one split, with quality and gap; failures have quality 0."""
    rows = [
        {"model": name, "sample": number, "split": split, **row}
        for name, table in completions.items()
        for number, row in enumerate(table.to_pylist())
    ]
    texts = [row["completion"] for row in rows]
    key = fingerprint(
        [],
        code=code_fingerprint(__name__),
        referee=code_version(task),
        texts=texts,
        split=split,
        **limits | {"cluster": None},
    )
    output = batches.WORK / "evaluate" / task.name / f"{split}.parquet"
    with Referee(task, split, **limits) as referee:

        def batch(numbers: range) -> pa.Table:
            verdicts = judge(referee, texts[numbers.start : numbers.stop])
            part = rows[numbers.start : numbers.stop]
            return pa.Table.from_pylist(
                [row | verdict_columns(task, split, *verdict) for row, verdict in zip(part, verdicts, strict=True)],
                schema=ROW,
            )

        return batches.run(f"evaluate {task.name} {split}", key, len(rows), BATCH, batch, output, tally="status")


def verdict_columns(task: Task, split: str, program: str | None, verdict: Verdict) -> dict[str, Any]:
    quality, gap = 0.0, None
    if verdict.score is not None:
        quality, gap = task.quality(verdict.score, split), task.gap(verdict.score, split)
    return {**vars(verdict), "program": program, "quality": quality, "gap": gap}


def template(task: Task, split: str, limits: dict[str, Any]) -> float:
    """The score of the program that the model was asked to better."""
    with Referee(task, split, **limits) as referee:
        return template_score(referee)


def compare(table: pa.Table, split: str, template_score: float, seed: int) -> dict[str, Any]:
    """The figures of both models on a split, over all samples, and the intervals of their difference."""
    rows = [row for row in table.to_pylist() if row["split"] == split]
    models = {name: [row for row in rows if row["model"] == name] for name in ("base", "tuned")}
    qualities = {name: np.array([row["quality"] for row in group]) for name, group in models.items()}
    summaries = {name: summary(group, qualities[name], template_score) for name, group in models.items()}
    return {**summaries, "difference": difference(qualities["base"], qualities["tuned"], seed)}


def summary(rows: list[dict[str, Any]], qualities: np.ndarray, template_score: float) -> dict[str, float | int | None]:
    """One model's figures on one split. Shares and distinctness are of all samples; gaps in %, of the valid ones.

    equal_to_template: same score. better_than_template: strictly better score.
    """
    n, gaps = len(rows), sorted(100 * row["gap"] for row in rows if row["gap"] is not None)
    scores = np.array([row["score"] for row in rows if row["score"] is not None])
    is_equal = np.isclose(scores, template_score, rtol=1e-9)
    values = {name: round(float(figure(qualities)), 6) for name, figure in figures(n).items()}
    return {
        "n_samples": n,
        **values,
        "equal_to_template": round(float(is_equal.sum()) / n, 6),
        "better_than_template": round(float(((scores > template_score) & ~is_equal).sum()) / n, 6),
        "distinct_behaviours": round(len({row["behaviour"] for row in rows} - {None}) / n, 6),
        "gap_percent_best": round(gaps[0], 4) if gaps else None,
        "gap_percent_top_10": round(float(np.mean(gaps[:10])), 4) if gaps else None,
        "gap_percent_median": round(float(np.median(gaps)), 4) if gaps else None,
        "mean_tokens": round(float(np.mean([row["n_tokens"] for row in rows])), 2),
        **{name: sum(row[name] for row in rows) for name in ("n_prompt_tokens", "n_tokens")},
    }
