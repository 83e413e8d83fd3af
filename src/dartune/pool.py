"""The pool: what a model writes to the task's fixed prompt, one row per completion asked for."""

from pathlib import Path
from typing import Annotated

import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune import journal
from dartune.checkpoint import open_model, open_tokenizer, revision
from dartune.generation import Sampling, complete, start_seed
from dartune.task import Task


def write_pool(
    task: str,
    base: Path,
    output: Path,
    *,
    n_programs: PositiveInt,
    batch_size: PositiveInt,
    seed: NonNegativeInt,
    temperature: PositiveFloat,
    top_p: Annotated[float, Field(gt=0, le=1)],
    max_new_tokens: PositiveInt,
) -> None:
    """Write the pool of a task as Parquet.

    Columns: id, task, prompt, completion, n_tokens, finish, and what decided it: model, seed, temperature, top_p.
    n_programs: completions asked for. batch_size: completions per call of the model; each batch has its own seed.
    """
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
                }
                for number, completion in zip(rows, completions, strict=True)
            ]
        )

    journal.run(f"pool {task}", key, n_programs, batch_size, batch, output)
