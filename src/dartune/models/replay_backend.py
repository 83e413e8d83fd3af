"""A back end without a model: replays recorded completions in order.

JSON lines, {"prompt", "completion", "n_prompt_tokens", "n_tokens", "finish"}, or Parquet with these columns, such as a
pool. Values other than prompt and completion may be missing or null: counts are then 0, and finish is "stop",
as for imported programs. Other fields are ignored.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from dartune.errors import UserError
from dartune.files.json_lines import checked_object, decoded, numbered_lines, parse, read_bytes
from dartune.models.backend import Completion, Decoding

EXPECTED = "expected recorded completions: on every line an object with prompt and completion"
Count = Annotated[int, Field(ge=0, lt=2**31)]


class Record(TypedDict):
    """What is read of a recorded completion."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]
    prompt: str
    completion: str
    n_prompt_tokens: Count | None
    n_tokens: Count | None
    finish: Literal["stop", "length", "imported"] | None


RECORD = TypeAdapter(Record)


class ReplayBackend:
    """A back end that returns, for each prompt, the next completion recorded for exactly that prompt.

    A completion is used up once its batch is counted; an unfinished batch gets the same ones again. Raises UserError
    where the file cannot be read, has no completion, or has a malformed one.
    """

    prices = (0.0, 0.0)

    def __init__(self, file: Path) -> None:
        content = read_bytes(file, EXPECTED)
        self.run_settings: dict[str, Any] = {}
        self.revision = f"recorded:{hashlib.sha256(content).hexdigest()[:16]}"
        self._file = file
        self._completions: defaultdict[str, list[Completion]] = defaultdict(list)
        self._n_used: Counter[str] = Counter()
        for place, values in (rows if file.suffix == ".parquet" else lines)(content, file):
            record = checked_record(values, place)
            finish = "length" if record["finish"] == "length" else "stop"
            counts = record["n_prompt_tokens"] or 0, record["n_tokens"] or 0
            self._completions[record["prompt"]].append(Completion(record["completion"], *counts, finish))
        if not self._completions:
            raise UserError(f"{file}: there is no completion in it; record some first")

    def complete(self, prompts: list[str], *, seed: int, decoding: Decoding) -> list[Completion]:
        """Return one completion per prompt, in order. They depend on the batches counted before, not on the seed.

        Raises UserError where a prompt has no completion left.
        """
        n_used, completions = self._n_used.copy(), []
        for prompt in prompts:
            completions.append(self._recorded(prompt, n_used[prompt]))
            n_used[prompt] += 1
        return completions

    def count(self, prompts: list[str], n_prompt_tokens: int, n_tokens: int) -> None:
        """Mark the completions of a finished batch as used."""
        self._n_used.update(prompts)

    def _recorded(self, prompt: str, number: int) -> Completion:
        recorded = self._completions.get(prompt, [])
        if number >= len(recorded):
            raise UserError(
                f"{self._file}: {len(recorded)} completions are recorded for a prompt of {len(prompt)} characters that"
                f" begins {prompt[:40]!r}, and one more is asked for; record more, ask for fewer, or mend the prompt"
            )
        return recorded[number]


def lines(content: bytes, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place for errors, object) of each line that is not blank. Raises UserError about a malformed line."""
    for number, line in numbered_lines(decoded(content, file, EXPECTED)):
        place = f"{file}: line {number}"
        yield place, checked_object(parse(line, file, number, EXPECTED), place, EXPECTED)


def rows(content: bytes, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place for errors, row) of Parquet. Raises UserError about a damaged file."""
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: not a whole Parquet file ({str(error).splitlines()[0]})") from error
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"{file}: row {number}", row


def checked_record(values: dict[str, Any], place: str) -> Record:
    """Return the fields of a record, None where they are missing. Raises UserError about the first that is wrong."""
    try:
        return RECORD.validate_python({name: values.get(name) for name in Record.__annotations__})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{place}: {first['loc'][0]} is {repr(first['input'])[:40]}: {first['msg'].lower()}") from error
