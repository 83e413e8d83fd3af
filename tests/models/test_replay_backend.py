"""Completions recorded earlier, replayed: each once, in the order recorded."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dartune.models.backend import Backend, Completion, Decoding
from dartune.models.replay_backend import ReplayBackend
from one_line_errors import refused

DECODING = Decoding(temperature=1.0, top_p=1.0, max_new_tokens=16)


def recorded(folder: Path, *records: dict[str, Any]) -> Path:
    file = folder / "recorded.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def pool(folder: Path, **columns: list[Any]) -> Path:
    file = folder / "recorded.parquet"
    pq.write_table(pa.table(columns), file)
    return file


def texts(backend: Backend, prompts: list[str], seed: int = 0) -> list[str]:
    """The texts of a batch, which is then finished."""
    answers = backend.complete(prompts, seed=seed, decoding=DECODING)
    backend.count(prompts, 0, 0)
    return [answer.text for answer in answers]


A1, A2, B1 = ({"prompt": prompt, "completion": prompt + n} for prompt, n in (("a", "1"), ("a", "2"), ("b", "1")))


def test_each_prompt_gets_its_own_completions_in_the_order_recorded(tmp_path: Path) -> None:
    backend = ReplayBackend(recorded(tmp_path, A1, B1, A2))
    assert texts(backend, ["b", "a", "a"]) == ["b1", "a1", "a2"]


def test_what_comes_next_depends_on_earlier_prompts_and_not_on_seeds(tmp_path: Path) -> None:
    backend = ReplayBackend(recorded(tmp_path, A1, B1, A2))
    assert [texts(backend, ["a"], seed) for seed in (5, 5)] == [["a1"], ["a2"]]


def test_a_batch_that_was_not_finished_gets_the_same_again(tmp_path: Path) -> None:
    backend = ReplayBackend(recorded(tmp_path, A1, B1, A2))
    first, again = (backend.complete(["a", "b", "a"], seed=0, decoding=DECODING) for _ in range(2))
    assert first == again
    assert [answer.text for answer in first] == ["a1", "b1", "a2"]


def test_a_resumed_run_goes_on_after_the_batches_that_it_counts(tmp_path: Path) -> None:
    resumed = ReplayBackend(recorded(tmp_path, A1, B1, A2))
    resumed.count(["b", "a"], 0, 0)
    assert texts(resumed, ["a"]) == ["a2"]


def test_counts_and_ends_are_replayed(tmp_path: Path) -> None:
    file = recorded(tmp_path, A1 | {"n_prompt_tokens": 3, "n_tokens": 7, "finish": "length"})
    assert ReplayBackend(file).complete(["a"], seed=0, decoding=DECODING) == [Completion("a1", 3, 7, "length")]


@pytest.mark.parametrize("unknown", [{}, {"n_prompt_tokens": None, "n_tokens": None, "finish": None}])
def test_what_is_not_known_counts_nothing_and_ended_by_itself(unknown: dict[str, Any], tmp_path: Path) -> None:
    file = recorded(tmp_path, A1 | unknown)
    assert ReplayBackend(file).complete(["a"], seed=0, decoding=DECODING) == [Completion("a1", 0, 0, "stop")]


def test_a_pool_is_a_recording(tmp_path: Path) -> None:
    columns = {"id": ["x", "y"], "prompt": ["a", "a"], "completion": ["1", "2"], "model": ["m", "m"]}
    backend = ReplayBackend(pool(tmp_path, **columns, n_tokens=[7, 8], finish=["stop", "length"]))
    answers = backend.complete(["a", "a"], seed=0, decoding=DECODING)
    assert answers == [Completion("1", 0, 7, "stop"), Completion("2", 0, 8, "length")]


def test_an_imported_pool_is_a_recording(tmp_path: Path) -> None:
    counts = pa.array([None], pa.int64())
    file = pool(tmp_path, prompt=["a"], completion=["1"], n_tokens=counts, finish=["imported"])
    assert ReplayBackend(file).complete(["a"], seed=0, decoding=DECODING) == [Completion("1", 0, 0, "stop")]


def test_a_recording_is_named_by_its_content_and_is_free(tmp_path: Path) -> None:
    file = recorded(tmp_path, A1)
    assert ReplayBackend(file).revision == f"recorded:{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
    assert ReplayBackend(file).revision != ReplayBackend(recorded(tmp_path, B1)).revision
    assert ReplayBackend(file).prices == (0.0, 0.0)


def test_texts_are_replayed_as_they_are(tmp_path: Path) -> None:
    odd = "ä\u2028\x85 \U0001f600\r\n\t```"
    file = recorded(tmp_path, {"prompt": odd, "completion": odd})
    file.write_text("\ufeff" + json.dumps({"prompt": odd, "completion": odd}, ensure_ascii=False) + "\r\n\n")
    assert texts(ReplayBackend(file), [odd]) == [odd]


def test_a_prompt_that_has_no_completion_left_is_named(tmp_path: Path) -> None:
    file = recorded(tmp_path, A1, A2)
    backend = ReplayBackend(file)
    texts(backend, ["a", "a"])
    message = refused(lambda: texts(backend, ["a"]))
    assert f"{file}: 2 completions are recorded for a prompt of 1 characters that begins 'a', and one more" in message
    assert "2 completions are recorded" in refused(lambda: texts(ReplayBackend(file), ["a", "a", "a"]))
    assert "0 completions are recorded" in refused(lambda: texts(backend, ["a "]))


def test_a_long_prompt_is_named_by_its_start_on_one_line(tmp_path: Path) -> None:
    message = refused(lambda: texts(ReplayBackend(recorded(tmp_path, A1)), ["Write\n" * 100]))
    assert "a prompt of 600 characters that begins 'Write\\nWrite" in message
    assert len(message) < 400


MALFORMED = [
    (b"", "there is no completion in it"),
    (b"\n \n", "there is no completion in it"),
    (b'{"prompt": "a"', "line 2 is not JSON"),
    (b"[" * 100_000, "line 2 is not JSON"),
    (b'["a", "b"]', 'line 2 is ["a", "b"]; expected recorded completions: on every line an object'),
    (b'{"prompt": "a"}', "line 2: completion is None: input should be a valid string"),
    (b'{"completion": "a"}', "line 2: prompt is None: input should be a valid string"),
    (b'{"prompt": "a", "completion": 5}', "line 2: completion is 5: input should be a valid string"),
    (
        b'{"prompt": "a", "completion": "", "n_tokens": -1}',
        "line 2: n_tokens is -1: input should be greater than or equal to 0",
    ),
    (b'{"prompt": "a", "completion": "", "n_tokens": 1.5}', "line 2: n_tokens is 1.5"),
    (b'{"prompt": "a", "completion": "", "n_tokens": true}', "line 2: n_tokens is True"),
    (b'{"prompt": "a", "completion": "", "n_prompt_tokens": "3"}', "line 2: n_prompt_tokens is '3'"),
    (b'{"prompt": "a", "completion": "", "finish": "end"}', "line 2: finish is 'end': input should be 'stop'"),
    (b'{"prompt": "a", "completion": "", "finish": []}', "line 2: finish is []: input should be 'stop'"),
    (b'{"prompt": "a", "completion": "\\ud83d"}', "line 2 holds half a character (\\ud83d)"),
    (b'{"prompt": "a", "completion": "\xff"}', "line 2 is not UTF-8 text"),
]


@pytest.mark.parametrize(("content", "expected"), MALFORMED, ids=[expected for _, expected in MALFORMED])
def test_a_malformed_file_is_named_with_its_line(content: bytes, expected: str, tmp_path: Path) -> None:
    file = recorded(tmp_path, *([] if "no completion" in expected else [A1]))
    file.write_bytes(file.read_bytes() + content)
    message = refused(lambda: ReplayBackend(file))
    assert message.startswith(f"{file}: {expected}")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for name in ("none.jsonl", "none.parquet"):
        assert f"{name}: no such file" in refused(lambda: ReplayBackend(tmp_path / name))


def test_a_malformed_pool_is_named_with_its_row(tmp_path: Path) -> None:
    assert "row 1: completion is None" in refused(lambda: ReplayBackend(pool(tmp_path, prompt=["a"])))
    nothing = pa.array([], pa.string())
    assert "there is no completion" in refused(
        lambda: ReplayBackend(pool(tmp_path, prompt=nothing, completion=nothing))
    )
    file = pool(tmp_path, prompt=["a", "b"], completion=["1", None])
    assert f"{file}: row 2: completion is None" in refused(lambda: ReplayBackend(file))
    file.write_bytes(file.read_bytes()[:-10])
    assert f"{file}: not a whole Parquet file" in refused(lambda: ReplayBackend(file))
