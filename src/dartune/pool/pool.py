"""Stage `pool`: completions, one row each, that a model writes independently or in a search, or that were imported."""

import json
import shutil
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from dartune import params
from dartune.errors import UserError
from dartune.files import atomic, batches, parquet
from dartune.models.backend import Backend, Decoding
from dartune.pool.ask_tell import INDEPENDENT
from dartune.pool.search_loop import COMPLETION_SCHEMA, SearchSpec, run_searches
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
SOURCES = "a model's folder, a preset, a server's .yaml, or recorded completions (.jsonl, .parquet)"
SEED_STEP = 1_000_000  # between the seeds of two searches


def write_pool(
    task: str,
    limits: Path,
    options: dict[str, Any],
    output: Path,
    metrics: Path,
    *,
    source: str,
    method: str,
    n_searches: PositiveInt,
    n_programs: PositiveInt,
    batch_size: PositiveInt,
    seed: NonNegativeInt,
    temperature: PositiveFloat,
    top_p: Annotated[float, Field(gt=0, le=1)],
    max_new_tokens: PositiveInt,
) -> None:
    """Write the pool of a task as Parquet (POOL_SCHEMA), and its tokens and money as JSON.

    limits: file of stage referee with the limits on a search's programs, {} for a method that needs no verdicts.
    options: of the method. source: a model's folder, a preset (its base model writes, with its `threads`,
    `stop_after_program` and `prompt`), a server's .yaml, recorded completions, or a folder that `dartune import-pool`
    wrote; the latter is taken whole, and the other arguments have no effect. method: a module in pool/methods/.
    n_searches: run side by side, so that the model writes for all of them at once. n_programs: completions to write, in
    all. batch_size: completions per call of the model for method `independent`; the others choose their own. Raises
    UserError where the source is none of these.
    """
    if (table := read_imported_pool(task, Path(source))) is not None:
        if len(table) != n_programs:
            print(
                f"pool {task}: {len(table)} imported programs, all there are; n_programs is for pools that are written"
            )
        write_table(table, (0.0, 0.0), output, metrics)
        return
    decoding = Decoding(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    size = batch_size if method == INDEPENDENT else None
    seeds = search_seeds(seed, n_searches, n_programs)
    backend = open_backend(Path(source), Task(task))
    this = Task(task, backend.run_settings.get("prompt", "plain"))
    spec = SearchSpec(this, method, options, n_programs // n_searches, seeds, decoding, size)
    generate_pool(spec, backend, json.loads(limits.read_text()), output, metrics)


def search_seeds(seed: int, n_searches: int, n_programs: int) -> list[int]:
    """Return the seed of each search, none of which a later round has (see rounds.SEED_STEP).

    Raises UserError where the searches cannot share the programs evenly.
    """
    if n_programs % n_searches:
        raise UserError(f"pool: n_programs, {n_programs}, is no multiple of n_searches, {n_searches}; make it one")
    return [seed + SEED_STEP * number for number in range(n_searches)]


def generate_pool(spec: SearchSpec, backend: Backend, limits: dict[str, Any], output: Path, metrics: Path) -> None:
    """Write a pool with a back end, by the searches of the spec. limits: content of the file that write_pool takes."""
    task, work = spec.task, batches.WORK / "pools" / spec.task.name
    opened: AbstractContextManager[Referee | None] = (
        Referee.from_limits(task, SPLIT, limits) if limits else nullcontext()
    )
    with opened as referee:
        table = run_searches(f"pool {task.name}", spec, backend, referee, work, limits=limits)
    constants = {"task": task.name, "method": spec.method, "model": backend.revision, **vars(spec.decoding)}
    for name, value in constants.items():
        table = table.append_column(name, pa.array([value] * len(table), POOL_SCHEMA.field(name).type))
    write_table(table.select(POOL_SCHEMA.names), backend.prices, output, metrics)
    shutil.rmtree(work)


def write_table(table: pa.Table, prices: tuple[float, float], output: Path, metrics: Path) -> None:
    """Write a pool and its metrics: counts of completions and how they ended, tokens, money.

    prices: per million tokens of prompts and of completions.
    """
    n_prompt_tokens, n_tokens = (sum(filter(None, table[name].to_pylist())) for name in ("n_prompt_tokens", "n_tokens"))
    summary = {
        "n_programs": len(table),
        "n_prompt_tokens": n_prompt_tokens,
        "n_tokens": n_tokens,
        "money": round((prices[0] * n_prompt_tokens + prices[1] * n_tokens) / 1e6, 6),
        "finish": dict(sorted(Counter(table["finish"].to_pylist()).items())),
    }
    atomic.write_json(metrics, summary)
    parquet.write(table, output)


def open_backend(source: Path, task: Task) -> Backend:
    """Return the back end for a source of write_pool. Raises UserError for other paths."""
    model = params.read(source).get("base") if source.suffix == ".yaml" else None
    if source.is_dir() or isinstance(model, dict):
        from dartune.models.transformers_backend import TransformersBackend

        folder = source if model is None else writer(source, model, task.name)
        return TransformersBackend(folder, function=task.function)
    if source.suffix == ".yaml":
        from dartune.models.openai_backend import open_server

        return open_server(source)
    if source.suffix in (".jsonl", ".parquet"):
        from dartune.models.replay_backend import ReplayBackend

        return ReplayBackend(source)
    raise UserError(f"{source}: expected {SOURCES}")


def writer(preset: Path, base: dict[str, Any], task: str) -> Path:
    """Make and return a base folder for the model of a preset, one for each task: stages run side by side.

    base: the preset's section.

    Raises UserError for the embedded model, which has a folder of its own.
    """
    from dartune.models.checkpoint import point_to
    from dartune.models.host import write_run

    if base["model"] == "embedded":
        raise UserError(f"pool.source: {preset} is the embedded model; take models/embedded")
    folder = batches.WORK / "writers" / task / preset.stem
    point_to(folder, base["model"], base["revision"])
    write_run(folder, **{name: value for name, value in base.items() if name not in ("model", "revision")})
    return folder


def read_imported_pool(task: str, source: Path) -> pa.Table | None:
    """Return the task's pool in a folder that `dartune import-pool` wrote; None if the source has no pools.

    Raises UserError if it has pools of other tasks only, or if the columns differ from a pool's.
    """
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
