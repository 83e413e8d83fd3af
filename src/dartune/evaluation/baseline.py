"""Stage baseline: what the base model writes for evaluation, once, however often another model is tuned."""

import shutil
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune.evaluation.backends import open_backend
from dartune.files import batches, parquet
from dartune.files.fingerprint import fingerprint
from dartune.files.modules import code_fingerprint
from dartune.models.backend import Decoding, start_seed
from dartune.models.checkpoint import revision
from dartune.models.host import run_settings
from dartune.tasks.task import Task

COMPLETION_SCHEMA = pa.schema(
    [("completion", pa.string()), ("n_prompt_tokens", pa.int64()), ("n_tokens", pa.int64()), ("finish", pa.string())]
)


def write_baseline(
    task: str,
    base: Path,
    output: Path,
    *,
    n_samples: PositiveInt,
    batch_size: PositiveInt,
    seed: NonNegativeInt,
    temperature: PositiveFloat,
    top_p: Annotated[float, Field(gt=0, le=1)],
    max_new_tokens: PositiveInt,
    server: str | None,
) -> None:
    """Write the base model's completions as COMPLETION_SCHEMA. The arguments are those of `write_evaluation`."""
    this, work = Task(task, run_settings(base)["prompt"]), batches.WORK / "baseline" / task
    decoding = Decoding(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    drawn: dict[str, Any] = {"n_samples": n_samples, "batch_size": batch_size, "seed": seed, "decoding": decoding}
    label = f"baseline {task}"
    parquet.write(complete(this, "base", None, base=base, server=server, label=label, work=work, **drawn), output)
    shutil.rmtree(work)


def complete(
    task: Task,
    name: str,
    tuned: Path | None,
    *,
    base: Path,
    n_samples: int,
    batch_size: int,
    seed: int,
    decoding: Decoding,
    server: str | None,
    label: str,
    work: Path,
) -> pa.Table:
    """Return n_samples completions of one model as COMPLETION_SCHEMA, those of a killed run among them.

    name: "base", or "tuned" with the folder of its weights; the seed depends on it. server: see open_backend. label:
    begins lines of progress. work: a folder that keeps them until it is removed.
    """
    of_model = {"prompt": task.prompt, "model": revision(base), "run": run_settings(base), "server": server}
    settings = {**of_model, "seed": seed, "batch_size": batch_size, "decoding": decoding}
    key = fingerprint([tuned] if tuned else [], code=code_fingerprint(__name__), **settings)
    output = work / f"{name}-{key}-{n_samples}.parquet"
    if output.exists():
        return parquet.read(output)
    backend = open_backend(name, task, base, tuned, server)

    def batch(rows: range) -> pa.Table:
        """Return the completions of a range of rows."""
        first = start_seed("evaluate", name, task.name, seed, rows.start)
        answers = backend.complete([task.prompt] * len(rows), seed=first, decoding=decoding)
        completions = [{"completion": answer.text, **vars(answer)} for answer in answers]
        return pa.Table.from_pylist(completions, schema=COMPLETION_SCHEMA)

    def count(table: pa.Table) -> None:
        """Give a finished batch's tokens to the back end, which may have a budget."""
        n_prompt_tokens, n_tokens = (sum(table[column].to_pylist()) for column in ("n_prompt_tokens", "n_tokens"))
        backend.count([task.prompt] * len(table), n_prompt_tokens, n_tokens)

    return batches.run(label, key, n_samples, batch_size, batch, output, after=count)
