"""The loop of every search: the method proposes prompts, a model completes them, the referee judges the programs."""

import time
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pyarrow as pa

from dartune import params
from dartune.errors import UserError, nearest
from dartune.files import batches, parquet
from dartune.files.fingerprint import fingerprint
from dartune.files.modules import code_fingerprint
from dartune.models.backend import Backend, Decoding, start_seed
from dartune.pool.ask_tell import Candidate, Proposal, methods
from dartune.referee.completions import PROGRAM_SCHEMA, judge, template_score
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
TEMPLATE_ID = "template"  # in column parents


class SearchSpec(NamedTuple):
    """Everything that determines the searches of one method, besides the model and the referee.

    method, options: a module in pool/methods/ and the arguments of its class. n_evaluations: completions per search,
    valid or not. seeds: one per search. batch_size: completions that a search asks for at a time, None for the method's
    default.
    """

    task: Task
    method: str
    options: dict[str, Any]
    n_evaluations: int
    seeds: list[int]
    decoding: Decoding
    batch_size: int | None


def search_class(method: str) -> type[Any]:
    """Return the class of a search method. Raises UserError if there is no such method."""
    if method not in methods():
        raise UserError(f"there is no search method {method!r}{nearest(method, methods())}")
    search: type[Any] = import_module(f"dartune.pool.methods.{method}").Search
    return search


def options(method: str, file: Path = params.FILE) -> dict[str, Any]:
    """Return the method's section under `methods` of params.yaml. Raises UserError if it is missing or invalid."""
    search, content = search_class(method), params.read(file).get("methods")
    if not isinstance(content, dict) or not isinstance(content.get(method), dict):
        raise UserError(f"{file}: methods.{method} is missing; search method {method} needs it")
    return params.check(f"methods.{method}", content[method], search, file)


def run_searches(
    stage: str, spec: SearchSpec, backend: Backend, referee: Referee | None, work: Path, **key: Any
) -> pa.Table:
    """Run one search per seed. Return the rows (SEARCH_SCHEMA) in the order written; no verdicts without a referee.

    stage: see batches.run; it also seeds the model. work: folder for finished searches, which the caller removes.
    key: what else determines the result. Raises UserError if the template is not a valid program.
    """
    searches = Searches(stage, spec, backend, referee)
    n_seeds, size = len(spec.seeds), searches.batch_size
    key |= spec._asdict() | {"batch_size": size, "n_evaluations": None}  # a longer search goes on from a shorter one
    key |= {"prompt": spec.task.prompt, "model": backend.revision, "run": backend.run_settings}
    key |= {"columns": SEARCH_SCHEMA.names, "stage": stage}
    if referee:
        key |= {"referee": referee.version, "timeout_s": referee.timeout_s}
    code = code_fingerprint(__name__, f"dartune.pool.methods.{spec.method}")
    batch_key = fingerprint([], code=code, **key)
    output, n_rows = work / f"{batch_key}-{spec.n_evaluations}.parquet", n_seeds * spec.n_evaluations
    if parquet.is_complete(output, n_rows):
        return parquet.read(output)
    tally = "status" if referee else None
    return batches.run(
        stage, batch_key, n_rows, n_seeds * size, searches.batch, output, tally=tally, after=searches.tell
    )


class Searches:
    """Independent searches, one per seed, that call the model together, which is faster."""

    def __init__(self, stage: str, spec: SearchSpec, backend: Backend, referee: Referee | None) -> None:
        self._stage, self._spec, self._backend, self._referee = stage, spec, backend, referee
        start = template_candidate(referee) if referee else None
        search = search_class(spec.method)
        self._searches = {seed: search(spec.task, start, **spec.options) for seed in spec.seeds}
        self.batch_size: int = spec.batch_size or self._searches[spec.seeds[0]].size

    def batch(self, rows: range) -> pa.Table:
        """Return the next rows of all searches, ordered by seed."""
        began, n_seeds = time.perf_counter(), len(self._searches)
        first, n = rows.start // n_seeds, len(rows) // n_seeds
        proposals = self._ask(first, n)
        seed = start_seed(self._stage, *self._searches, first)
        prompts = [proposal.prompt for _, proposal in proposals]
        completions = self._backend.complete(prompts, seed=seed, decoding=self._spec.decoding)
        # Without lone surrogates, which no file can hold.
        texts = [completion.text.encode(errors="replace").decode() for completion in completions]
        judged = judge(self._referee, texts) if self._referee else [None] * len(rows)
        seconds = round((time.perf_counter() - began) / len(rows), 6)
        table = [
            {**ids, **vars(proposal), **vars(completion), "completion": text, "seconds": seconds}
            | (one.columns() if one else {})
            for (ids, proposal), completion, text, one in zip(proposals, completions, texts, judged, strict=True)
        ]
        return pa.Table.from_pylist(table, schema=SEARCH_SCHEMA)

    def tell(self, table: pa.Table) -> None:
        """Give the results of a finished batch to the searches and its tokens to the back end."""
        rows = table.to_pylist()
        n_prompt_tokens, n_tokens = (sum(row[name] for row in rows) for name in ("n_prompt_tokens", "n_tokens"))
        self._backend.count([row["prompt"] for row in rows], n_prompt_tokens, n_tokens)
        for seed, search in self._searches.items():
            rows_of_seed = [row for row in rows if row["seed"] == seed]
            search.tell([candidate(row) for row in rows_of_seed], Random(f"{rows_of_seed[0]['id']}/tell"))

    def _ask(self, first: int, n: int) -> list[tuple[dict[str, Any], Proposal]]:
        """Return n proposals of each search, numbered from `first` on, with their {"id", "seed", "generation"}."""
        name, generation = self._spec.task.name, first // self.batch_size
        return [
            ({"id": f"{name}-{seed}-{first + i:06d}", "seed": seed, "generation": generation}, proposal)
            for seed, search in self._searches.items()
            for i, proposal in enumerate(search.ask(Random(f"{seed}/{first}/ask"), n))
        ]


def template_candidate(referee: Referee) -> Candidate:
    """Return the task's template, where every search starts. Raises UserError if it is not a valid program."""
    template, score = referee.task.template, template_score(referee)
    (verdict,) = referee.judge([template])
    return Candidate(TEMPLATE_ID, template, template, score, verdict.costs)


def candidate(row: dict[str, Any]) -> Candidate:
    """Return a row as a candidate for the search methods."""
    costs = tuple(row["costs"]) if row["costs"] is not None else None
    return Candidate(row["id"], row["completion"], row["program"], row["score"], costs, row["island"])
