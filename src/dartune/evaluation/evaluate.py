"""Stage evaluate: the tuned model writes programs too, and the referee judges both models' on held-out instances."""

import shutil
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune.evaluation import statistics
from dartune.evaluation.baseline import COMPLETION_SCHEMA, complete
from dartune.evaluation.statistics import MODELS, TEMPLATE
from dartune.files import atomic, batches, parquet
from dartune.files.fingerprint import fingerprint
from dartune.files.modules import code_fingerprint
from dartune.models.backend import Decoding
from dartune.models.host import run_settings
from dartune.referee.completions import PROGRAM_SCHEMA, equals_template, judge, template_score
from dartune.referee.referee import INTERPRETER, Referee, code_version
from dartune.tasks.task import Task

BATCH = 200  # programs judged between two saves
EVALUATION_SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("sample", pa.int64()),
        ("split", pa.string()),
        *COMPLETION_SCHEMA,
        *PROGRAM_SCHEMA,
        ("quality", pa.float64()),
        ("gap", pa.float64()),
    ]
)


def write_evaluation(
    task: str,
    base: Path,
    baseline: Path,
    tuned: Path,
    output: Path,
    metrics: Path,
    transferred: Path,
    *,
    n_samples: PositiveInt,
    batch_size: PositiveInt,
    seed: NonNegativeInt,
    temperature: PositiveFloat,
    top_p: Annotated[float, Field(gt=0, le=1)],
    max_new_tokens: PositiveInt,
    held_out: str,
    with_shifted: bool,
    transfer: list[str],
    max_slowdown: PositiveFloat,
    memory_mib: PositiveInt,
    cluster: str | None,
    server: str | None,
) -> None:
    """Write one row per model, sample and split as EVALUATION_SCHEMA, and the metrics of each split as JSON.

    baseline: what stage `baseline` wrote. transferred: a file for the same metrics on other tasks, {task: {split:
    metrics}}. n_samples: completions per model. batch_size: completions generated at a time. held_out: the split to
    judge on, "validation" while settings are chosen, "test" for results. with_shifted: judge on the size-shifted splits
    too. transfer: other tasks that both models write for; this one among them is left out. max_slowdown, memory_mib,
    cluster: see Referee. server: see open_backend. Raises UserError where a task's own template is not valid.
    """
    form, work = run_settings(base)["prompt"], batches.WORK / "evaluate" / task
    decoding = Decoding(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    writing = partial(
        complete, base=base, n_samples=n_samples, batch_size=batch_size, seed=seed, decoding=decoding, server=server
    )
    limits = {"max_slowdown": max_slowdown, "memory_mib": memory_mib, "cluster": cluster}

    def judged(name: str) -> dict[str, tuple[pa.Table, float]]:
        """Return what `evaluate` does, for both models and each split of a task."""
        this, label = Task(name, form), f"{task}{f' on {name}' * (name != task)}"
        write = partial(writing, this, work=work / name)
        of_base = parquet.read(baseline) if name == task else write("base", None, label=f"evaluate {label} base")
        answers = {"base": of_base, "tuned": write("tuned", tuned, label=f"evaluate {label} tuned")}
        splits = [held_out, *(this.shifted if with_shifted else ())]
        return {split: evaluate(this, split, answers, limits, label, work / name) for split in splits}

    def compared(results: dict[str, tuple[pa.Table, float]]) -> dict[str, Any]:
        """Return the metrics of each split."""
        return {split: compare(*of_split, seed) for split, of_split in results.items()}

    own = judged(task)
    table = pa.concat_tables([table for table, _ in own.values()])
    others = {name: compared(judged(name)) for name in transfer if name != task}
    parquet.write(table.replace_schema_metadata({TEMPLATE: Task(task).template}), output)
    atomic.write_json(transferred, others)
    atomic.write_json(metrics, compared(own))
    shutil.rmtree(work)


def evaluate(
    task: Task, split: str, completions: dict[str, pa.Table], limits: dict[str, Any], label: str, work: Path
) -> tuple[pa.Table, float]:
    """Return the verdicts on all completions on one split as EVALUATION_SCHEMA, and the score of the task's template.

    completions: by model, as COMPLETION_SCHEMA. limits: keyword arguments of Referee. label, work: as for complete.
    Failures have quality 0. Raises UserError where the template is not valid.
    """
    rows = [
        {"model": name, "sample": number, "split": split, **row}
        for name, table in completions.items()
        for number, row in enumerate(table.to_pylist())
    ]
    texts = [row["completion"] for row in rows]
    settings = {"texts": texts, "split": split, **limits, "cluster": None, "interpreter": INTERPRETER}
    key = fingerprint([], code=code_fingerprint(__name__), referee=code_version(task), **settings)
    output = work / f"{split}.parquet"
    with Referee(task, split, **limits) as referee:

        def batch(numbers: range) -> pa.Table:
            """Return the verdicts on a range of rows."""
            part = slice(numbers.start, numbers.stop)
            judged = []
            for row, one in zip(rows[part], judge(referee, texts[part]), strict=True):
                score = one.verdict.score
                gap = None if score is None else task.gap(score, split)
                judged.append(row | one.columns() | {"quality": task.quality(score, split), "gap": gap})
            return pa.Table.from_pylist(judged, schema=EVALUATION_SCHEMA)

        template = template_score(referee)
        table = batches.run(f"evaluate {label} {split}", key, len(rows), BATCH, batch, output, tally="status")
        return table, template


def compare(table: pa.Table, template_score: float, seed: int) -> dict[str, Any]:
    """Return {"base", "tuned", "difference"}: each model's metrics on one split, and intervals of their difference."""
    rows = table.to_pylist()
    models = {name: [row for row in rows if row["model"] == name] for name in MODELS}
    qualities = {name: np.array([row["quality"] for row in models[name]]) for name in MODELS}
    summaries = {name: summary(models[name], qualities[name], template_score) for name in MODELS}
    return {**summaries, "difference": statistics.difference(qualities["base"], qualities["tuned"], seed)}


def summary(rows: list[dict[str, Any]], qualities: np.ndarray, template_score: float) -> dict[str, float | int | None]:
    """Return the metrics of one model on one split. Shares are of all samples; gaps are in %, of valid programs only.

    qualities: (n,) of the same rows. equal_to_template: share with the template's score. better_than_template: share
    with a strictly better one.
    """
    n, gaps = len(rows), sorted(100 * row["gap"] for row in rows if row["gap"] is not None)
    scores = [row["score"] for row in rows if row["score"] is not None]
    others = [score for score in scores if not equals_template(score, template_score)]
    return {
        "n_samples": n,
        **{name: round(float(metric(qualities)), 6) for name, metric in statistics.metrics(n).items()},
        "equal_to_template": round((len(scores) - len(others)) / n, 6),
        "better_than_template": round(sum(score > template_score for score in others) / n, 6),
        "distinct_behaviours": round(len({row["behaviour"] for row in rows} - {None}) / n, 6),
        "gap_percent_best": round(gaps[0], 4) if gaps else None,
        "gap_percent_top_10": round(float(np.mean(gaps[:10])), 4) if gaps else None,
        "gap_percent_median": round(float(np.median(gaps)), 4) if gaps else None,
        "mean_tokens": round(float(np.mean([row["n_tokens"] for row in rows])), 2),
        **{name: sum(row[name] for row in rows) for name in ("n_prompt_tokens", "n_tokens")},
    }
