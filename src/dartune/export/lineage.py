"""Lineage: a pair's two programs, with everything that decided them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import duckdb

from dartune.errors import UserError, nearest
from dartune.programs.escape import plain
from dartune.tasks.task import names

LOCK = Path("dvc.lock")

# grain: one row per role, the chosen program first
TRACE = """
with roles as (
    select pair, strategy, margin, is_held_out, 'chosen' as role, chosen_id as id, chosen_subset as subset
    from read_parquet($pairs)
    union all
    select pair, strategy, margin, is_held_out, 'rejected' as role, rejected_id as id, rejected_subset as subset
    from read_parquet($pairs)
)
select roles.*, programs.* exclude (id, text, tree, shape, score_signature, signature), $commit as commit
from roles
inner join read_parquet($scored) as programs on programs.id = roles.id
where roles.pair = $pair
order by role
"""
PAIR_KEYS = ("pair", "task", "strategy", "margin", "is_held_out", "commit")
LABELS = {  # what the readable form shows of a program; the JSON has all
    "status": "verdict",
    "reason": "reason",
    "score": "score",
    "costs": "costs",
    "subset": "subset (1 is the best)",
    "behaviour": "behaviour",
    "family": "family",
    "method": "search method",
    "operation": "operation",
    "parents": "programs in its prompt",
    "generation": "generation",
    "model": "model revision",
    "seed": "seed",
    "temperature": "temperature",
    "top_p": "top_p",
    "max_new_tokens": "max_new_tokens",
    "n_prompt_tokens": "tokens of the prompt",
    "n_tokens": "tokens written",
    "finish": "finish",
    "split": "judged on split",
    "task_version": "task version",
    "max_slowdown": "max_slowdown",
    "memory_mib": "memory_mib",
    "missing_layers": "missing sandbox layers",
}


def trace(pair: str) -> dict[str, Any]:
    """Return a pair with both programs: PAIR_KEYS, "chosen" and "rejected".

    Each program has its completion, prompt, verdict, traits, and the settings of model and referee. commit: the first
    whose dvc.lock has these pairs; None while they are not committed. Raises UserError where there is no such pair, or
    the stages that make it did not run.
    """
    task = pair.rpartition("-")[0]
    if task not in names():
        raise UserError(f"trace: {pair!r} names no task{nearest(task, names())}; expected such as tsp_construct-00017")
    pairs, md5 = output("pairs", task)
    scored, _ = output("score", task)
    values = {"pair": pair, "pairs": pairs, "scored": scored, "commit": commit_of(md5)}
    with duckdb.connect() as connection:
        rows = connection.sql(TRACE, params=values).to_arrow_table().to_pylist()
        if len(rows) != 2:
            query = "select min(pair), max(pair) from read_parquet($1)"
            first, last = connection.execute(query, [pairs]).fetchall()[0]
            raise UserError(f"trace: there is no pair {pair!r}; {pairs} has {first} to {last}")
    roles = {row["role"]: {k: v for k, v in row.items() if k not in (*PAIR_KEYS, "role")} for row in rows}
    return {key: rows[0][key] for key in PAIR_KEYS} | roles


def output(stage: str, task: str) -> tuple[str, str]:
    """Return the path and hash of a stage's table. Raises UserError where it never ran or the table is missing."""
    try:
        stages = read_lock()
    except UserError as mistake:
        raise UserError(f"trace: {mistake}") from mistake
    address = f"{stage}@{task}"
    if address not in stages:
        raise UserError(f"trace: {LOCK} knows no stage {address}; run it first: dvc repro {address}")
    first = stages[address]["outs"][0]
    if not Path(first["path"]).exists():
        raise UserError(f"trace: {first['path']} is missing; get it by `dvc checkout` or `dvc repro`")
    return first["path"], first["md5"]


def read_lock() -> dict[str, Any]:
    """Return the entries of dvc.lock by address, such as train@tsp_construct. Raises UserError where it is missing."""
    from ruamel.yaml import YAML

    try:
        return dict(YAML(typ="safe").load(LOCK.read_text())["stages"])
    except FileNotFoundError as error:
        raise UserError(f"{LOCK} is missing; run from the root of the project, after `make run`") from error


def commit_of(md5: str) -> str | None:
    """Return the earliest commit whose dvc.lock has this hash."""
    command = ["git", "log", "--format=%H", f"-S{md5}", "--", str(LOCK)]
    commits = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return commits[-1] if commits else None


def readable(traced: dict[str, Any]) -> str:
    """Return the trace as text: the pair, then both programs, then their prompts. Control characters are escaped."""
    chosen, rejected = traced["chosen"], traced["rejected"]
    lines = [f"{key}: {'-' if traced[key] is None else traced[key]}" for key in PAIR_KEYS]
    for role, program in (("chosen", chosen), ("rejected", rejected)):
        lines += ["", f"{role}: {program['id']}"]
        fields = {label: program[key] for key, label in LABELS.items() if program[key] not in (None, "")}
        lines += [f"  {label}: {field_text(value)}" for label, value in fields.items()]
        lines += ["", *(f"    {line}" for line in program["completion"].splitlines())]
    prompts = {"prompt of chosen": chosen["prompt"], "prompt of rejected": rejected["prompt"]}
    for title, prompt in ({"prompt": chosen["prompt"]} if len(set(prompts.values())) == 1 else prompts).items():
        lines += ["", f"{title}:", *(f"    {line}" for line in prompt.splitlines())]
    return plain("\n".join(lines))  # most of it was written by a model


def field_text(value: Any) -> str:
    """Return a field's value on one line."""
    return json.dumps(value) if isinstance(value, list) else str(value)
