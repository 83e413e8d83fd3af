"""What an OpenAI-compatible server is sent, when, and what becomes of its answers."""

import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from completion_server import (
    DECODING,
    OK,
    body,
    complete,
    described,
    drip,
    error,
    faulty,
    says,
)
from dartune.models.backend import Decoding
from dartune.models.openai_backend import open_server
from one_line_errors import refused

pytestmark = pytest.mark.usefixtures("short_back_off")


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "length"),
        ("abort", "length"),
        (None, "length"),
    ],
)
def test_only_a_turn_that_the_model_ended_is_whole(finish: str | None, expected: str, tmp_path: Path) -> None:
    with faulty(says(body(finish=finish))) as server:
        [answer] = open_server(described(tmp_path, url=server.url)).complete(["a"], seed=0, decoding=DECODING)
    assert (answer.finish, answer.n_prompt_tokens, answer.n_tokens) == (expected, 3, 2)


@pytest.mark.parametrize("message", [{"role": "assistant", "content": None}, {"role": "assistant"}])
def test_an_answer_without_content_is_empty_text(message: dict[str, Any], tmp_path: Path) -> None:
    with faulty(says(body(choices=[{"index": 0, "message": message, "finish_reason": "stop"}]))) as server:
        assert complete(open_server(described(tmp_path, url=server.url))) == [""]


def test_text_that_utf_8_cannot_hold_is_made_storable(tmp_path: Path) -> None:
    # json.dumps writes the halves of a character as \ud83d and \ude00; a whole pair is one character again.
    with faulty(says(body("a\ud83db\x00c\udc00")), says(body("\U0001f600"))) as server:
        backend = open_server(described(tmp_path, url=server.url))
        texts = [*complete(backend), *complete(backend)]
    assert texts == ["a\ufffdb\ufffdc\ufffd", "\U0001f600"]
    pq.write_table(pa.table({"completion": texts}), tmp_path / "pool.parquet")
    assert pq.read_table(tmp_path / "pool.parquet")["completion"].to_pylist() == texts


def number_of(request: dict[str, Any]) -> int:
    return int(request["messages"][0]["content"].split()[1])


def test_completions_keep_the_order_of_prompts_when_answers_do_not(tmp_path: Path) -> None:
    def late(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        time.sleep(0.05 * (8 - number_of(request)))
        finished.append(number_of(request))
        says(body(f"answer {number_of(request)}"))(handler, request)

    finished: list[int] = []
    with faulty(late) as server:
        texts = complete(open_server(described(tmp_path, url=server.url)), 8)
    assert texts == [f"answer {number}" for number in range(8)]
    assert finished != sorted(finished)


def test_no_more_requests_than_concurrency_are_under_way(tmp_path: Path) -> None:
    def slow(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        waiting.append(request["seed"])
        at_once.append(len(waiting))
        time.sleep(0.1)
        waiting.remove(request["seed"])
        OK(handler, request)

    waiting: list[int] = []
    at_once: list[int] = []
    with faulty(error(429), error(500), slow) as server:
        complete(open_server(described(tmp_path, url=server.url, concurrency=3)), 12)
    assert max(at_once) == 3


def test_starts_are_spaced_by_requests_per_minute_over_retries_and_batches(tmp_path: Path) -> None:
    with faulty(OK, error(429), OK) as server:
        backend = open_server(described(tmp_path, url=server.url, requests_per_minute=600))
        began = time.monotonic()
        complete(backend, 3)
        complete(backend, 2)
    assert len(server.starts) == 6
    for number, start in enumerate(server.starts):
        assert start - began >= number * 0.1  # 600 a minute are 0.1 s apart


def test_the_first_mistake_ends_all_other_requests(tmp_path: Path) -> None:
    def first_only(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        if number_of(request) == 0:
            return error(404)(handler, request)
        return drip(handler, request)

    with faulty(first_only) as server:
        start = time.monotonic()
        refused(lambda: complete(open_server(described(tmp_path, url=server.url, concurrency=2)), 50))
        assert time.monotonic() - start < 8
    assert len(server.requests) <= 3


def test_what_is_sent_is_the_prompt_and_how_to_draw(tmp_path: Path) -> None:
    with faulty(OK) as server:
        decoding = Decoding(temperature=0.7, top_p=0.9, max_new_tokens=5)
        open_server(described(tmp_path, url=server.url)).complete(["Write ä.\n"], seed=3, decoding=decoding)
    [request] = server.requests
    assert 0 < request.pop("seed") < 2**31
    assert request == {
        "model": "base",
        "messages": [{"role": "user", "content": "Write ä.\n"}],
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 5,
    }


def test_each_prompt_has_a_seed_of_its_own_that_the_batchs_seed_decides(tmp_path: Path) -> None:
    def seeds(seed: int) -> dict[int, int]:
        with faulty(OK) as server:
            backend = open_server(described(tmp_path, url=server.url))
            backend.complete([f"prompt {number}" for number in range(20)], seed=seed, decoding=DECODING)
        return {number_of(request): request["seed"] for request in server.requests}

    first, again, other = seeds(7), seeds(7), seeds(8)
    assert first == again
    assert len({*first.values(), *other.values()}) == 40
