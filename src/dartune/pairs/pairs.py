"""Stage pairs: preference pairs in TRL's format, with prompts and programs as the model's chat template needs them."""

from pathlib import Path
from typing import Annotated, Any

import duckdb
import pyarrow as pa
from pydantic import Field, NonNegativeInt

from dartune.files.parquet import checked_path, write
from dartune.models.checkpoint import open_tokenizer, prompt_ids, render, render_completion
from dartune.models.host import run_settings
from dartune.tasks.task import Task

JOIN = Path(__file__).parent / "pairs.sql"


def write_pairs(
    task: str,
    sample: Path,
    scored: Path,
    base: Path,
    output: Path,
    *,
    held_out: Annotated[float, Field(ge=0, lt=1)],
    seed: NonNegativeInt,
) -> None:
    """Write the pairs with both programs' ids, scores, subsets, the margin in score and the lengths in tokens.

    Column pair is the name that `dartune trace` takes; margin is null where the rejected program is a failure.
    held_out: share of the pairs that train nothing, for the reward's accuracy on unseen pairs. seed: decides which.
    Raises UserError where a table is missing or cut.
    """
    settings = {"sample": checked_path(sample), "scored": checked_path(scored), "held_out": held_out, "seed": seed}
    this = Task(task, run_settings(base)["prompt"])
    settings["prompt"] = this.prompt
    with duckdb.connect() as connection:
        rows = connection.sql(JOIN.read_text(), params=settings).to_arrow_table().to_pylist()
    tokenizer = open_tokenizer(base)
    answers = [row | {side: this.answer(row[side]) for side in ("chosen", "rejected")} for row in rows]
    write(pa.Table.from_pylist([formatted(row, tokenizer) for row in answers]), output)


def formatted(row: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Return the row with prompt, chosen and rejected as the model reads and writes them, and their lengths."""
    n_prompt = len(prompt_ids(tokenizer, row["prompt"]))
    return row | {
        "prompt": render(tokenizer, row["prompt"]),
        "chosen": render_completion(tokenizer, row["chosen"]),
        "rejected": render_completion(tokenizer, row["rejected"]),
        "prompt_tokens": n_prompt,
        "chosen_tokens": n_tokens(tokenizer, row["prompt"], row["chosen"]) - n_prompt,
        "rejected_tokens": n_tokens(tokenizer, row["prompt"], row["rejected"]) - n_prompt,
    }


def n_tokens(tokenizer: Any, prompt: str, completion: str) -> int:
    """Return the number of tokens of prompt and completion in training, with chat template or end-of-text token."""
    if not tokenizer.chat_template:
        return len(tokenizer(prompt + completion)["input_ids"]) + 1
    turns = [*render(tokenizer, prompt), *render_completion(tokenizer, completion)]
    return len(tokenizer.apply_chat_template(turns, return_dict=False))
