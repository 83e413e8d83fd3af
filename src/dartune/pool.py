"""The pool: what a model writes to the task's fixed prompt, one row per completion; or programs that were imported."""

from pathlib import Path
from typing import Annotated

import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune import journal
from dartune.checkpoint import open_model, open_tokenizer, revision
from dartune.generation import Sampling, complete, start_seed
from dartune.mistake import Mistake
from dartune.task import Task, names

ROW = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("n_tokens", pa.int64()),
        ("finish", pa.string()),
        ("model", pa.string()),
        ("seed", pa.int64()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("max_new_tokens", pa.int64()),
    ]
)


def write_pool(
    task: str,
    output: Path,
    *,
    source: str,
    n_programs: PositiveInt,
    batch_size: PositiveInt,
    seed: NonNegativeInt,
    temperature: PositiveFloat,
    top_p: Annotated[float, Field(gt=0, le=1)],
    max_new_tokens: PositiveInt,
) -> None:
    """Write the pool of a task as Parquet.

    Columns: ROW; model, seed, temperature, top_p and max_new_tokens are what decided a completion.
    source: a model's folder, or one that `dartune import-pool` wrote: then its first n_programs rows are the pool, and
    what follows is of no use. n_programs: completions asked for. batch_size: completions per call of the model; each
    batch has its own seed.
    """
    base = Path(source)
    if (table := imported(task, base)) is not None:
        journal.write(table.slice(0, n_programs), output)
        return
    prompt, model_revision = Task(task).prompt, revision(base)
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    key = journal.fingerprint(
        [], prompt=prompt, model=model_revision, seed=seed, batch_size=batch_size, sampling=sampling
    )
    model, tokenizer = open_model(base), open_tokenizer(base)

    def batch(rows: range) -> pa.Table:
        completions = complete(
            model,
            tokenizer,
            prompt,
            len(rows),
            seed=start_seed("pool", task, seed, rows.start),
            sampling=sampling,
        )
        return pa.Table.from_pylist(
            [
                {
                    "id": f"{task}-{seed}-{number:06d}",
                    "task": task,
                    "prompt": prompt,
                    "completion": completion.text,
                    "n_tokens": completion.n_tokens,
                    "finish": completion.finish,
                    "model": model_revision,
                    "seed": seed,
                    "temperature": temperature,
                    "top_p": top_p,
                    "max_new_tokens": max_new_tokens,
                }
                for number, completion in zip(rows, completions, strict=True)
            ],
            schema=ROW,
        )

    journal.run(f"pool {task}", key, n_programs, batch_size, batch, output)


def imported(task: str, source: Path) -> pa.Table | None:
    """The task's pool in a folder that `dartune import-pool` wrote; None for a folder without pools, a model's."""
    pools = {name: source / f"{name}.parquet" for name in names() if (source / f"{name}.parquet").exists()}
    if not pools:
        return None
    if task not in pools:
        raise Mistake(
            f"pool.source: {source} holds a pool of {', '.join(pools)} and none of {task}; import one with"
            f" `dartune import-pool FILE --task {task}`, or take {task} out of tasks in params.yaml"
        )
    table = journal.read(pools[task])
    if table.schema != ROW:
        raise Mistake(f"pool.source: {pools[task]} has other columns than a pool; make it with `dartune import-pool`")
    return table
