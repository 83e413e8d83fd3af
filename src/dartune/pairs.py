"""Preference pairs in TRL's form: prompt, chosen and rejected as this model's chat template takes them."""

from pathlib import Path
from typing import Annotated, Any

import duckdb
import pyarrow as pa
from pydantic import Field, NonNegativeInt

from dartune.checkpoint import answer, open_tokenizer, prompt_ids, render
from dartune.journal import read, write

# grain: one row per pair. A held-out pair is one of the share with the lowest hash: the same whatever the row order.
JOIN = """
select
    sample.pair,
    better.prompt,
    better.completion as chosen,
    worse.completion as rejected,
    sample.chosen as chosen_id,
    sample.rejected as rejected_id,
    sample.chosen_score,
    sample.rejected_score,
    sample.chosen_subset,
    sample.rejected_subset,
    sample.chosen_score - sample.rejected_score as margin,
    row_number() over (order by hash(sample.pair || '/' || $seed), sample.pair) <= $held_out * count(*) over ()
        as is_held_out
from read_parquet($sample) as sample
inner join read_parquet($scored) as better on better.id = sample.chosen
inner join read_parquet($scored) as worse on worse.id = sample.rejected
order by sample.pair
"""


def write_pairs(
    sample: Path,
    scored: Path,
    base: Path,
    output: Path,
    *,
    held_out: Annotated[float, Field(ge=0, lt=1)],
    seed: NonNegativeInt,
) -> None:
    """Write the pairs with both programs' ids, scores, subsets, the margin in score and the lengths in tokens.

    held_out: share of pairs kept from training, for the accuracy of the reward on pairs that it has not seen.
    """
    for file in (sample, scored):
        read(file)
    settings = {"sample": str(sample), "scored": str(scored), "held_out": held_out, "seed": seed}
    with duckdb.connect() as connection:
        rows = connection.sql(JOIN, params=settings).to_arrow_table().to_pylist()
    tokenizer = open_tokenizer(base)
    write(pa.Table.from_pylist([in_form(row, tokenizer) for row in rows]), output)


def in_form(row: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """The row with prompt, chosen and rejected as the model reads and writes them, and their lengths."""

    def length(completion: str) -> int:
        return len(tokenizer(completion, add_special_tokens=False)["input_ids"]) + 1  # and the end-of-turn token

    return row | {
        "prompt": render(tokenizer, row["prompt"]),
        "chosen": answer(tokenizer, row["chosen"]),
        "rejected": answer(tokenizer, row["rejected"]),
        "prompt_tokens": len(prompt_ids(tokenizer, row["prompt"])),
        "chosen_tokens": length(row["chosen"]),
        "rejected_tokens": length(row["rejected"]),
    }
