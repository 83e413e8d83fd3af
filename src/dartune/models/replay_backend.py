"""A back end without a model: replays recorded completions in order.

JSON lines, {"prompt", "completion", "n_prompt_tokens", "n_tokens", "finish"}, or Parquet with these columns, such as a
pool. Values other than prompt and completion may be missing or null: counts are then 0, and finish is "stop",
as for imported programs. Other fields are ignored.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dartune.errors import UserError
from dartune.models.backend import Completion, Decoding

FIELDS = ("prompt", "completion", "n_prompt_tokens", "n_tokens", "finish")
NEEDED = ("prompt", "completion")
FINISH = {"stop": "stop", "length": "length", "imported": "stop", None: "stop"}
COUNTS = range(2**31)


class ReplayBackend:
    """A back end that returns, for each prompt, the next completion recorded for exactly that prompt.

    A completion is used up once its batch is counted; an unfinished batch gets the same ones again. Raises UserError
    where the file cannot be read, has no completion, or has a malformed one.
    """

    prices = (0.0, 0.0)

    def __init__(self, file: Path) -> None:
        content = load(file)
        self.revision = f"recorded:{hashlib.sha256(content).hexdigest()[:16]}"
        self._file = file
        self._completions: defaultdict[str, list[Completion]] = defaultdict(list)
        self._n_used: Counter[str] = Counter()
        for record, place in (rows if file.suffix == ".parquet" else lines)(content, file):
            answer = completion(record, place)  # before the next line, as it checks that there is a prompt
            self._completions[record["prompt"]].append(answer)
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


def load(file: Path) -> bytes:
    """Return the bytes of a file. Raises UserError where it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {(error.strerror or str(error)).lower()}; expected recorded completions") from error


def lines(content: bytes, file: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield (record, place for errors) of each line that is not blank. Raises UserError about a malformed line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = content[: error.start].count(b"\n") + 1
        raise UserError(f"{file}: line {bad} is not UTF-8 text; expected a JSON object on every line") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield parse(line, f"{file}: line {number}"), f"{file}: line {number}"


def parse(line: str, place: str) -> dict[str, Any]:
    """Return the JSON object in a line. Raises UserError about anything else, and about lone surrogates."""
    try:
        value = json.loads(line)
        check_encodable(value, place)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON ({getattr(error, 'msg', str(error)).lower()})") from error
    if not isinstance(value, dict):
        raise UserError(f"{place} is {json.dumps(value)[:40]}; expected an object with prompt and completion")
    return value


def check_encodable(value: Any, place: str) -> None:
    """Raise UserError if a JSON value has lone surrogates, which UTF-8 cannot encode."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{place} holds half a character (\\u{ord(error.object[error.start]):x}); repair it") from error


def rows(content: bytes, file: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield (row, place for errors) of Parquet. Raises UserError about a damaged file or a missing column."""
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file}: not a whole Parquet file ({str(error).splitlines()[0]})") from error
    if missing := [name for name in NEEDED if name not in table.column_names]:
        raise UserError(f"{file}: there is no column {missing[0]}, only {', '.join(table.column_names)}")
    known = table.select([name for name in FIELDS if name in table.column_names])
    for number, row in enumerate(known.to_pylist(), start=1):
        yield row, f"{file}: row {number}"


def completion(record: dict[str, Any], place: str) -> Completion:
    """Return the completion in a record. Raises UserError about a field that is missing or has the wrong type."""
    for name in NEEDED:
        if not isinstance(record.get(name), str):
            raise UserError(f"{place}: {name} is {shown(record.get(name))}; expected text")
    n_prompt_tokens, n_tokens = count(record, "n_prompt_tokens", place), count(record, "n_tokens", place)
    if (finish := record.get("finish")) not in list(FINISH):
        raise UserError(f"{place}: finish is {shown(finish)}; expected stop, where the model ended its turn, or length")
    return Completion(record["completion"], n_prompt_tokens, n_tokens, FINISH[finish])


def count(record: dict[str, Any], name: str, place: str) -> int:
    """Return the number of tokens in a field, 0 if unknown. Raises UserError about anything else."""
    value = record.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value not in COUNTS:
        raise UserError(f"{place}: {name} is {shown(value)}; expected a whole number of tokens")
    return value


def shown(value: Any) -> str:
    """Return a value as text short enough for an error."""
    return repr(value)[:40]
