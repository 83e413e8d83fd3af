"""What a model makes of the prompts of EoH and FunSearch: shares of children that are valid, new, and better.

`make prompts PRESET=qwen2.5-coder-0.5b`, after the task's own prompts. Each search is told of answers that are drawn
from a recorded pool, as if it had asked for them, and then asks; the template may be a parent, too. Verdicts are on
validation instances. A finished table is kept in .work.

    python benchmarks/search_prompts.py PRESET [--tasks T ...] [--forms F ...] [--temperatures X ...] [-n N]
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
from judged import judged
from prompts import CELLS, MAX_NEW_TOKENS, SEED, SPLIT, TOP_P, base_of
from recording import Row, child_shares, head

from dartune.evaluation.baseline import COMPLETION_SCHEMA
from dartune.files import parquet
from dartune.files.atomic import write_json
from dartune.files.fingerprint import fingerprint
from dartune.models.backend import Decoding
from dartune.models.checkpoint import revision
from dartune.models.host import run_settings
from dartune.models.transformers_backend import TransformersBackend
from dartune.pool import prompts
from dartune.pool.ask_tell import Candidate, Proposal
from dartune.pool.pool import POOL_SCHEMA
from dartune.pool.search_loop import TEMPLATE_ID, options, search_class
from dartune.tasks.task import Task

POOL = Path("data/recorded/qwen2.5-coder-1.5b")
METHODS = ("eoh", "funsearch")
N_SEARCHES, N_TOLD = 8, 60  # searches of a method, and the answers that each is told of
HEAD = (
    "task",
    "form",
    "temperature",
    "operation",
    "children",
    "valid",
    "behave like no parent",
    "better than every one",
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("preset")
    parser.add_argument("--tasks", nargs="+", default=sorted(file.stem for file in POOL.glob("*.parquet")))
    parser.add_argument("--forms", nargs="+", default=["block", "signature"])
    parser.add_argument("--temperatures", nargs="+", type=float, default=[1.0])
    parser.add_argument("-n", type=int, default=64, help="children of each operation")
    arguments = parser.parse_args()
    if arguments.n < N_SEARCHES:
        parser.error(f"-n is {arguments.n}; each of {N_SEARCHES} searches asks for one child at least")
    base = base_of(arguments.preset)
    opened = cache(partial(TransformersBackend, base))
    print("\n".join(head(HEAD)))
    for task in (Task(name, form) for name in arguments.tasks for form in arguments.forms):
        for temperature in arguments.temperatures:
            for row in kept(base, opened, task, temperature, arguments.n):
                print("| " + " | ".join(map(str, row)) + " |", flush=True)


def kept(
    base: Path, opened: Callable[[], TransformersBackend], task: Task, temperature: float, n: int
) -> list[list[Any]]:
    """Return the rows of the table of one form and temperature, from .work where they are finished."""
    files = [POOL / f"{task.name}.parquet", Path(prompts.__file__)]
    key = fingerprint(files, run=run_settings(base), model=revision(base), prompt=task.prompt)
    file = CELLS / f"searches-{task.name}-{task.form}-{temperature:g}-{n}-{key}.json"
    if not file.exists():
        write_json(file, {"rows": list(rows(opened(), task, temperature, n))})
    return [[task.name, task.form, temperature, *row] for row in json.loads(file.read_text())["rows"]]


def rows(backend: TransformersBackend, task: Task, temperature: float, n: int) -> Iterator[list[Any]]:
    """Yield each operation, its number of children, and their shares."""
    pool = pool_of(task)
    proposals = [proposal for method in METHODS for proposal in proposals_of(method, task, pool, n // N_SEARCHES)]
    backend.function = task.function
    decoding = Decoding(temperature, TOP_P, MAX_NEW_TOKENS)
    answers = backend.complete([proposal.prompt for proposal in proposals], seed=SEED, decoding=decoding)
    table = pa.Table.from_pylist([{"completion": answer.text, **vars(answer)} for answer in answers], COMPLETION_SCHEMA)
    children, _ = judged(task.name, SPLIT, table)
    for operation in dict.fromkeys(proposal.operation for proposal in proposals):
        family = [
            (child, [pool[id] for id in proposal.parents])
            for child, proposal in zip(children, proposals, strict=True)
            if proposal.operation == operation
        ]
        yield [operation, len(family), *child_shares(family)]


def pool_of(task: Task) -> dict[str, Row]:
    """Return the recorded answers that are valid, and the template, with their verdicts, by id."""
    recorded = parquet.read(POOL / f"{task.name}.parquet").to_pylist()
    template = {"id": TEMPLATE_ID, "completion": f"```python\n{task.template}```"}
    recorded.append(template | {"n_prompt_tokens": 0, "n_tokens": 0})
    verdicts, _ = judged(task.name, SPLIT, pa.Table.from_pylist(recorded, POOL_SCHEMA))
    pairs = zip(recorded, verdicts, strict=True)
    return {row["id"]: row | verdict for row, verdict in pairs if verdict["score"] is not None}


def proposals_of(method: str, task: Task, pool: dict[str, Row], n: int) -> Iterator[Proposal]:
    """Yield what N_SEARCHES searches that know answers of the pool ask for, n times for each operation that they use.

    Told of nothing, a search goes on to its next operation.
    """
    ids = [id for id in pool if id != TEMPLATE_ID]
    for seed in range(N_SEARCHES):
        rng = Random(f"{method}/{seed}")
        search = search_class(method)(task, candidate(pool[TEMPLATE_ID], rng), **options(method))
        told, seen = [candidate(pool[id], rng) for id in rng.sample(ids, N_TOLD)], set[str]()
        for part in (told[::2], told[1::2]):
            search.tell(part, rng)
        while (proposals := search.ask(rng, n))[0].operation not in seen:
            seen.add(proposals[0].operation)
            yield from proposals
            search.tell([], rng)


def candidate(row: Row, rng: Random) -> Candidate:
    """Return an answer as a search gets it, on one of the islands that FunSearch has."""
    island = rng.randrange(options("funsearch")["n_islands"])
    return Candidate(row["id"], row["completion"], row["program"], row["score"], tuple(row["costs"]), island)


if __name__ == "__main__":
    main()
