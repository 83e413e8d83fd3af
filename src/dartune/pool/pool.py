"""The pool: what a model writes to the task's prompt or inside a search, one row per completion; or an imported one."""

import json
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune.errors import UserError
from dartune.files import atomic, batches, parquet
from dartune.models.backend import Backend, Decoding
from dartune.pool.ask_tell import INDEPENDENT
from dartune.pool.search_loop import COMPLETION_SCHEMA, run_searches
from dartune.referee.referee import Referee
from dartune.tasks.task import Task, names

POOL_SCHEMA = pa.schema(
    [
        *COMPLETION_SCHEMA,
        ("task", pa.string()),
        ("method", pa.string()),
        ("model", pa.string()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("max_new_tokens", pa.int64()),
    ]
)
SPLIT = "train"


def write_pool(
    task: str,
    rules: Path,
    options: dict[str, Any],
    output: Path,
    metrics: Path,
    *,
    source: str,
    method: str,
    n_programs: PositiveInt,
    batch_size: PositiveInt,
    seed: NonNegativeInt,
    temperature: PositiveFloat,
    top_p: Annotated[float, Field(gt=0, le=1)],
    max_new_tokens: PositiveInt,
) -> None:
    """Write the pool of a task as Parquet, and what it cost as JSON.

    Columns: POOL_SCHEMA; method, model, seed, temperature, top_p and max_new_tokens are what decided a completion.
    rules: how a search's programs are judged on the training instances, or {} for a method that judges none (stage
    referee). options: of the method. source: a model's folder, a server's .yaml, recorded completions, or a folder that
    `dartune import-pool` wrote: then its first n_programs rows are the pool, and what follows is of no use. method: a
    file of search/. n_programs: completions asked for. batch_size: completions per call of the model, when sampling; a
    search asks for as many as it needs at a time. Each batch has its own seed.
    """
    if (table := read_imported_pool(task, Path(source))) is not None:
        parquet.write(table.slice(0, n_programs), output)
        atomic.write_json(metrics, summary(table.slice(0, n_programs), None))
        return
    decoding = Decoding(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    backend, size = open_backend(Path(source)), batch_size if method == INDEPENDENT else None
    table = generate_pool(
        task, backend, json.loads(rules.read_text()), method, options, n_programs, size, seed, decoding
    )
    parquet.write(table, output)
    atomic.write_json(metrics, summary(table, backend))
    shutil.rmtree(batches.WORK / "pools" / task)


def generate_pool(
    task: str,
    backend: Backend,
    rules: dict[str, Any],
    method: str,
    options: dict[str, Any],
    n_programs: int,
    size: int | None,
    seed: int,
    decoding: Decoding,
) -> pa.Table:
    """The pool that a back end writes: POOL_SCHEMA. size: completions at a time, None for the method's own choice."""
    with open_referee(task, rules) as referee:
        table = run_searches(
            f"pool {task}",
            Task(task),
            method,
            options,
            backend,
            referee,
            n_evaluations=n_programs,
            size=size,
            seeds=[seed],
            decoding=decoding,
            work=batches.WORK / "pools" / task,
            rules=rules,
        )
    decided = {"task": task, "method": method, "model": backend.revision, **vars(decoding)}
    table = table.select(COMPLETION_SCHEMA.names)
    for field in POOL_SCHEMA:
        if field.name in decided:
            table = table.append_column(field, pa.array([decided[field.name]] * len(table), field.type))
    return table.select(POOL_SCHEMA.names)


def open_backend(source: Path) -> Backend:
    """The back end that a path names: a model's folder, a server (.yaml) or recorded completions (.jsonl, .parquet)."""
    if source.is_dir():
        from dartune.models.transformers_backend import TransformersBackend

        return TransformersBackend(source)
    if source.suffix == ".yaml":
        from dartune.models.openai_backend import open_server

        return open_server(source)
    if source.suffix in (".jsonl", ".parquet"):
        from dartune.models.replay_backend import ReplayBackend

        return ReplayBackend(source)
    raise UserError(
        f"{source}: expected a model's folder, a server's .yaml, or recorded completions (.jsonl, .parquet)"
    )


def open_referee(task: str, rules: dict[str, Any]) -> AbstractContextManager[Referee | None]:
    if not rules:
        return nullcontext()
    return Referee(Task(task), SPLIT, max_slowdown=rules["max_slowdown"], memory_mib=rules["memory_mib"])


def summary(table: pa.Table, backend: Backend | None) -> dict[str, Any]:
    """What the pool cost: completions, tokens of prompts and completions, and money where the back end has prices."""
    n_prompt_tokens, n_tokens = (sum(filter(None, table[name].to_pylist())) for name in ("n_prompt_tokens", "n_tokens"))
    prices = backend.prices if backend else (0.0, 0.0)
    finishes = table["finish"].to_pylist()
    return {
        "n_programs": len(table),
        "n_prompt_tokens": n_prompt_tokens,
        "n_tokens": n_tokens,
        "money": round((prices[0] * n_prompt_tokens + prices[1] * n_tokens) / 1e6, 6),
        "finish": {finish: finishes.count(finish) for finish in sorted(set(finishes))},
    }


def read_imported_pool(task: str, source: Path) -> pa.Table | None:
    """The task's pool in a folder that `dartune import-pool` wrote; None for a folder without pools, a model's."""
    pools = {name: source / f"{name}.parquet" for name in names() if (source / f"{name}.parquet").exists()}
    if not pools:
        return None
    if task not in pools:
        raise UserError(
            f"pool.source: {source} holds a pool of {', '.join(pools)} and none of {task}; import one with"
            f" `dartune import-pool FILE --task {task}`, or take {task} out of tasks in params.yaml"
        )
    table = parquet.read(pools[task])
    if table.schema != POOL_SCHEMA:
        raise UserError(f"pool.source: {pools[task]} has other columns than a pool; make it with `dartune import-pool`")
    return table
