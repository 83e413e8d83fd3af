"""Lineage: a pair's two programs, with everything that decided them."""

import json
from typing import Any

import duckdb

from dartune.errors import UserError, nearest
from dartune.export.provenance import Run, first_commit
from dartune.programs.escape import plain
from dartune.tasks.task import names

# grain: one row per role, the chosen program first
TRACE = """
select
    pair, strategy, margin, is_held_out,
    if(id = chosen_id, 'chosen', 'rejected') as role, if(id = chosen_id, chosen_subset, rejected_subset) as subset,
    programs.* exclude (text, tree, shape, score_signature, equals_template, signature), $commit as commit
from read_parquet($scored) as programs
inner join read_parquet($pairs) as pairs on programs.id in (pairs.chosen_id, pairs.rejected_id)
where pair = $pair
order by role
"""
PAIR_KEYS = ("pair", "task", "strategy", "margin", "is_held_out", "commit")


def trace(pair: str) -> dict[str, Any]:
    """Return a pair with both programs: PAIR_KEYS, "chosen" and "rejected".

    Each program has its completion, prompt, verdict, traits, and the settings of model and referee. commit: the first
    whose dvc.lock has these pairs; None while they are not committed. Raises UserError where there is no such pair, or
    where a table is missing or is not what its stage wrote.
    """
    task = pair.rpartition("-")[0]
    if task not in names():
        if task.rpartition("-")[0] in names():
            raise UserError(f"trace: {pair!r} is the id of a program; a pair has one such as {names()[0]}-00017")
        raise UserError(f"trace: {pair!r} names no task{nearest(task, names())}; expected such as tsp_construct-00017")
    run = Run(task)
    pairs, scored = (str(run.file(f"data/{stage}/{task}.parquet")) for stage in ("pairs", "scored"))
    values = {"pair": pair, "pairs": pairs, "scored": scored, "commit": first_commit(run.hash_of(pairs))}
    with duckdb.connect() as connection:
        rows = connection.sql(TRACE, params=values).to_arrow_table().to_pylist()
    if len(rows) != 2:
        raise UserError(f"trace: there is no pair {pair!r} in {pairs}")
    roles = {row["role"]: {k: v for k, v in row.items() if k not in (*PAIR_KEYS, "role")} for row in rows}
    return {key: rows[0][key] for key in PAIR_KEYS} | roles


def readable(traced: dict[str, Any]) -> str:
    """Return the trace as text: the pair, then both programs with their prompts. Control characters are escaped."""
    lines = [f"{key}: {traced[key]}" for key in PAIR_KEYS]
    for role in ("chosen", "rejected"):
        texts = {name: traced[role][name] for name in ("completion", "prompt")}
        fields = {name: value for name, value in traced[role].items() if value is not None and name not in texts}
        lines += ["", f"{role}:", *(f"  {name}: {json.dumps(value)}" for name, value in fields.items())]
        for name, text in texts.items():
            lines += [f"  {name}:", *(f"    {line}" for line in text.splitlines())]
    return plain("\n".join(lines))  # most of it was written by a model
