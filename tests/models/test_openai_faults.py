"""An OpenAI-compatible server that goes wrong: what is asked again, and what is reported."""

import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from openai import _base_client

from completion_server import (
    OK,
    Answer,
    body,
    complete,
    cut,
    described,
    drip,
    error,
    faulty,
    says,
    sent,
)
from dartune.models.openai_backend import open_server
from one_line_errors import refused
from ports import free_port

pytestmark = pytest.mark.usefixtures("short_back_off")

PASSING: dict[str, Answer] = {
    "429": error(429),
    "408": error(408),
    "409": error(409),
    "500": error(500),
    "503 without JSON": says(b"<html>upstream</html>", 503, Content_Type="text/html"),
    "an answer that is cut": cut,
    "malformed JSON": says(b'{"choices": ['),
    "JSON that is called text": says(b"oops", Content_Type="text/plain"),
    "bytes that are no UTF-8": says(b'{"choices": "\xff\xfe"}'),
    "an empty body": says(b""),
    "JSON of another shape": says([1, 2]),
    "no choices": says(body(choices=[])),
    "an error with status 200": says({"error": {"message": "upstream is busy", "code": 502}}),
    "choices that are null": says(body(choices=None)),
    "a choice without a message": says(body(choices=[{"index": 0}])),
    "content of another type": says(body(choices=[{"message": {"content": 5}}])),
    "usage of another type": says(body(usage={"prompt_tokens": "3", "completion_tokens": 2})),
    "usage below zero": says(body(usage={"prompt_tokens": -3, "completion_tokens": 2})),
    "nesting without end": says(b"[" * 100_000),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_request_is_repeated_after_a_fault_that_may_pass(fault: Answer, tmp_path: Path) -> None:
    with faulty(fault, OK) as server:
        assert complete(open_server(described(tmp_path, url=server.url))) == ["ok"]
    assert len(server.requests) == 2
    assert server.requests[0] == server.requests[1]


def test_a_server_that_never_recovers_is_asked_retries_times_again(tmp_path: Path) -> None:
    with faulty(error(500, "out of memory")) as server:
        backend = open_server(described(tmp_path, url=server.url, retries=3))
        message = refused(lambda: complete(backend))
    assert len(server.requests) == 4
    assert f"{server.url}: HTTP 500: out of memory; asked 4 times" in message
    assert "raise retries" in message


def test_each_wait_is_about_twice_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_base_client, "INITIAL_RETRY_DELAY", 0.1)
    with faulty(error(500)) as server:
        refused(lambda: complete(open_server(described(tmp_path, url=server.url, retries=3))))
    first, second, third = (later - start for start, later in zip(server.starts, server.starts[1:], strict=False))
    # At least half of 0.1, 0.2 and 0.4 s; how much longer a request takes is up to the machine.
    assert (first >= 0.05, second >= 0.1, third >= 0.2) == (True, True, True)


def busy_for_a_second(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    sent(handler, 429, b"{}", Retry_After="1")


def busy_until(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    """A date has no fractions of a second: 2 s from now, cut, is at least 1 s from now."""
    sent(handler, 429, b"{}", Retry_After=formatdate(time.time() + 2, usegmt=True))


@pytest.mark.parametrize("busy", [busy_for_a_second, busy_until])
def test_a_server_that_names_a_wait_is_asked_again_after_it(busy: Answer, tmp_path: Path) -> None:
    with faulty(busy, OK) as server:
        assert complete(open_server(described(tmp_path, url=server.url))) == ["ok"]
    assert 0.99 <= server.starts[1] - server.starts[0] <= 6


@pytest.mark.parametrize(
    "value", ["86400", "Fri, 31 Dec 2199 23:59:59 GMT", "9" * 400], ids=["a day", "a date", "for ever"]
)
def test_a_server_that_asks_for_a_longer_wait_is_not_asked_again(value: str, tmp_path: Path) -> None:
    with faulty(error(429, "come back tomorrow", Retry_After=value), OK) as server:
        message = refused(lambda: complete(open_server(described(tmp_path, url=server.url))))
    assert len(server.requests) == 1
    assert "HTTP 429: come back tomorrow; asked 1 times" in message and "finished batches are kept" in message


@pytest.mark.parametrize("value", ["soon", "-5", "", "nan", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_malformed_or_past_retry_after_causes_no_wait(value: str, tmp_path: Path) -> None:
    with faulty(error(429, Retry_After=value), OK) as server:
        assert complete(open_server(described(tmp_path, url=server.url))) == ["ok"]
    assert server.starts[1] - server.starts[0] < 4


def test_a_server_that_drips_is_given_up_after_timeout_s(tmp_path: Path) -> None:
    with faulty(drip) as server:
        backend, start = open_server(described(tmp_path, url=server.url, timeout_s=0.35, retries=1)), time.monotonic()
        message = refused(lambda: complete(backend))
        seconds = time.monotonic() - start
    assert "no whole answer within timeout_s: 0.35; asked 2 times" in message
    assert 0.7 <= seconds <= 8  # two deadlines; the drip itself would take 10 s each time


def test_a_cut_connection_is_named(tmp_path: Path) -> None:
    with faulty(cut) as server:
        message = refused(lambda: complete(open_server(described(tmp_path, url=server.url, retries=0))))
    assert "the connection failed (RemoteProtocolError: peer closed connection" in message


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    message = refused(lambda: complete(open_server(described(tmp_path, url=url))))
    assert f"{url}: the connection failed (ConnectError" in message
    assert "asked 3 times. See if the server runs" in message


FINAL = {
    400: "This model's maximum context length is 4096 tokens",
    404: "The model `base` does not exist.",
    422: "temperature: too high",
    413: "too large",
    402: "no credit",
    301: "moved",
}


@pytest.mark.parametrize("status", FINAL)
def test_a_fault_that_a_person_must_fix_is_reported_at_once(status: int, tmp_path: Path) -> None:
    with faulty(error(status, FINAL[status])) as server:
        file = described(tmp_path, url=server.url)
        message = refused(lambda: complete(open_server(file)))
    assert len(server.requests) == 1
    assert f"{file}: {server.url} answered HTTP {status}: {FINAL[status]}; correct url or model there" in message


SHAPES: list[Any] = [
    {"error": {"message": "what is wrong"}},
    {"error": "what is wrong"},
    {"object": "error", "message": "what is wrong"},
    {"detail": "what is wrong"},
    {"detail": [{"loc": ["body"], "msg": "what is wrong"}]},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_errors_are_read_in_every_servers_shape(shape: Any, tmp_path: Path) -> None:
    with faulty(says(shape, 400)) as server:
        assert "HTTP 400: what is wrong;" in refused(lambda: complete(open_server(described(tmp_path, url=server.url))))


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"detail": []}', b'{"error": {"message": 5}}', b"\xff"])
def test_an_error_that_says_nothing_is_named_by_its_number(content: bytes, tmp_path: Path) -> None:
    with faulty(says(content, 400)) as server:
        message = refused(lambda: complete(open_server(described(tmp_path, url=server.url))))
    assert "answered HTTP 400; correct url or model" in message


def test_an_error_shows_the_start_of_a_servers_first_line_in_plain_text(tmp_path: Path) -> None:
    with faulty(error(400, "\n\x1b[31mred\x07\u202e" + "x" * 1000 + "\nsecond line")) as server:
        message = refused(lambda: complete(open_server(described(tmp_path, url=server.url))))
    assert f"HTTP 400: [31mred{'x' * 193};" in message  # 200 characters in all


def test_a_server_that_counts_no_tokens_is_refused_at_once(tmp_path: Path) -> None:
    for usage in ({"usage": None}, {}):
        whole = {key: value for key, value in body().items() if key != "usage"} | usage
        with faulty(says(whole)) as server:
            message = refused(lambda: complete(open_server(described(tmp_path, url=server.url))))
        assert len(server.requests) == 1
        assert "does not report usage" in message
