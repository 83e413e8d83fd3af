"""A search: a method proposes, a model writes, the referee judges, the method is told. What was finished is kept."""

import time
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa

from dartune import params
from dartune.errors import UserError, nearest
from dartune.files import batches, parquet
from dartune.files.fingerprint import fingerprint
from dartune.files.modules import code_fingerprint
from dartune.models.backend import Backend, Completion, Decoding, start_seed
from dartune.pool.ask_tell import Candidate, Proposal, methods
from dartune.programs.verdict import Verdict
from dartune.referee.completions import PROGRAM_SCHEMA, judge
from dartune.referee.referee import Referee
from dartune.tasks.task import Task

COMPLETION_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("seed", pa.int64()),
        ("operation", pa.string()),
        ("generation", pa.int64()),
        ("parents", pa.list_(pa.string())),
        ("island", pa.int64()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("n_prompt_tokens", pa.int64()),
        ("n_tokens", pa.int64()),
        ("finish", pa.string()),
    ]
)
SEARCH_SCHEMA = pa.schema([*COMPLETION_SCHEMA, *PROGRAM_SCHEMA, ("seconds", pa.float64())])
TEMPLATE_ID = "template"


def method(name: str) -> type[Any]:
    if name not in methods():
        raise UserError(f"there is no search method {name!r}{nearest(name, methods())}")
    search: type[Any] = import_module(f"dartune.pool.methods.{name}").Search
    return search


def options(name: str, file: Path = params.FILE) -> dict[str, Any]:
    """The method's own section under `methods`, checked."""
    search, content = method(name), params.read(file).get("methods")
    if not isinstance(content, dict) or not isinstance(content.get(name), dict):
        raise UserError(f"{file}: methods.{name} is missing; search method {name} needs it")
    return params.check(f"methods.{name}", content[name], search, file)


def run_searches(
    stage: str,
    task: Task,
    name: str,
    options: dict[str, Any],
    backend: Backend,
    referee: Referee | None,
    *,
    n_evaluations: int,
    size: int | None,
    seeds: list[int],
    decoding: Decoding,
    work: Path,
    **key: Any,
) -> pa.Table:
    """The rows (SEARCH_SCHEMA) of one search a seed, in the order written; verdicts are null without a referee.

    The searches know nothing of each other, but ask the model together, which is faster. An evaluation is a completion,
    whatever becomes of it. name, options: of the method. n_evaluations: of each search. size: completions at a time,
    None for the method's own choice. work: folder that keeps finished searches, for the caller to clear. key: what else
    decides the result.
    """
    start = template_candidate(task, referee) if referee else None
    searches = {seed: method(name)(task, start, **options) for seed in seeds}
    size = size or searches[seeds[0]].size
    settings = {"method": name, "options": options, "size": size, "seeds": seeds, "decoding": decoding, "stage": stage}
    key = {**key, "prompt": task.prompt, "model": backend.revision, "columns": SEARCH_SCHEMA.names, **settings}
    if referee:
        key |= {"referee": referee.version, "timeout_s": referee.timeout_s}
    batch_key = fingerprint([], code=code_fingerprint(__name__, f"dartune.pool.methods.{name}"), **key)
    output = work / f"{batch_key}-{n_evaluations}.parquet"
    if parquet.is_whole(output, len(seeds) * n_evaluations):
        return parquet.read(output)

    def batch(rows: range) -> pa.Table:
        began, first, n = time.perf_counter(), rows.start // len(seeds), len(rows) // len(seeds)
        asked = ask(searches, task.name, first, n, size)
        prompts = [proposal.prompt for _, proposal in asked]
        completions = backend.complete(prompts, seed=start_seed(stage, *seeds, first), decoding=decoding)
        texts = [storable(completion.text) for completion in completions]
        verdicts = judge(referee, texts) if referee else [(None, None)] * len(rows)
        seconds = round((time.perf_counter() - began) / len(rows), 6)
        made = [
            {**place, **row(proposal, completion, *verdict), "completion": text, "seconds": seconds}
            for (place, proposal), completion, text, verdict in zip(asked, completions, texts, verdicts, strict=True)
        ]
        return pa.Table.from_pylist(made, schema=SEARCH_SCHEMA)

    def tell(table: pa.Table) -> None:
        rows = table.to_pylist()
        tokens = (sum(row[name] for row in rows) for name in ("n_prompt_tokens", "n_tokens"))
        backend.count([row["prompt"] for row in rows], *tokens)
        for seed, search in searches.items():
            own = [row for row in rows if row["seed"] == seed]
            search.tell([candidate(row) for row in own], Random(f"{own[0]['id']}/tell"))

    n, tally = len(seeds), "status" if referee else None
    return batches.run(stage, batch_key, n * n_evaluations, n * size, batch, output, tally=tally, after=tell)


def ask(searches: dict[int, Any], task: str, first: int, n: int, size: int) -> list[tuple[dict[str, Any], Proposal]]:
    """n proposals of each search from number `first` on, with {"id", "seed", "generation"}."""
    return [
        ({"id": f"{task}-{seed}-{first + i:06d}", "seed": seed, "generation": first // size}, proposal)
        for seed, search in searches.items()
        for i, proposal in enumerate(search.ask(Random(f"{seed}/{first}/ask"), n))
    ]


def template_candidate(task: Task, referee: Referee) -> Candidate:
    """The task's template, which the model is asked to better, as the first candidate."""
    (verdict,) = referee.judge([task.template])
    if verdict.score is None:
        raise UserError(f"{task.name}: its own template program is judged {verdict.status}: {verdict.reason}")
    return Candidate(TEMPLATE_ID, task.template, task.template, verdict.score, verdict.costs)


def row(proposal: Proposal, completion: Completion, program: str | None, verdict: Verdict | None) -> dict[str, Any]:
    written = {**vars(proposal), **vars(completion), "parents": list(proposal.parents)}
    return written | (vars(verdict) if verdict else {}) | {"program": program}


def storable(text: str) -> str:
    """The text with half characters, which no file can hold, replaced."""
    return text.encode(errors="replace").decode()


def candidate(row: dict[str, Any]) -> Candidate:
    costs = tuple(row["costs"]) if row["costs"] is not None else None
    return Candidate(row["id"], row["completion"], row["program"], row["score"], costs, row["island"])
