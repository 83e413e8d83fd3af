"""The file that describes a server, and its budget."""

from pathlib import Path
from typing import Any

import pytest

from completion_server import (
    MISSING,
    OK,
    complete,
    described,
    faulty,
)
from dartune.models.openai_backend import open_server
from one_line_errors import refused


def test_a_server_is_named_by_model_and_address(tmp_path: Path) -> None:
    server = open_server(described(tmp_path, url="https://models.example.org/v1/", price_in=0.5, price_out=2))
    assert server.revision == "base@https://models.example.org/v1"
    assert server.prices == (0.5, 2.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"concurency": 8}, "server.concurency is not a parameter; did you mean 'concurrency'?"),
        ({"timeout_s": MISSING}, "server.timeout_s is missing; dartune.models.openai_backend.OpenAIBackend needs it"),
        ({"key": MISSING}, "server.key is missing"),
        ({"model": 5}, "server.model is 5: input should be a valid string"),
        ({"model": ""}, "server.model is ''"),
        ({"concurrency": 0}, "server.concurrency is 0: input should be greater than or equal to 1"),
        ({"concurrency": 1001}, "server.concurrency is 1001: input should be less than or equal to 1000"),
        ({"concurrency": 1.5}, "server.concurrency is 1.5"),
        ({"requests_per_minute": 0}, "server.requests_per_minute is 0: input should be greater than 0"),
        ({"timeout_s": "120"}, "server.timeout_s is '120': input should be a valid number"),
        ({"timeout_s": float("inf")}, "server.timeout_s is inf: input should be a finite number"),
        ({"retries": -1}, "server.retries is -1: input should be greater than or equal to 0"),
        ({"retries": True}, "server.retries is True: input should be a valid integer"),
        ({"price_in": -0.1}, "server.price_in is -0.1: input should be greater than or equal to 0"),
        ({"price_out": float("nan")}, "server.price_out is nan: input should be a finite number"),
        ({"max_tokens": 0}, "server.max_tokens is 0: input should be greater than 0"),
        ({"max_money": 0}, "server.max_money is 0: input should be greater than 0"),
        ({"max_money": 5.0}, "server.max_money is never reached while both prices are 0"),
    ],
)
def test_a_wrong_key_of_the_file_is_named(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    file = described(tmp_path, **changes)
    message = refused(lambda: open_server(file))
    assert message.startswith(str(file))
    assert expected in message


BAD_URLS = (
    "",
    "127.0.0.1:8000/v1",
    "ftp://models.example.org/v1",
    "http://",
    "http:///v1",
    "http://host name/v1",
    "http://host:port/v1",
    "http://host:99999/v1",
    "http://[::1/v1",
    "http://host/v1\n",
    "http://host/v1?api_key=hunter2",
    "http://host/v1#hunter2",
    "http://user:hunter2@host/v1",
    "user:hunter2@host",
)


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_wrong_address_is_refused_without_what_may_be_a_password(url: str, tmp_path: Path) -> None:
    message = refused(lambda: open_server(described(tmp_path, url=url)))
    assert "server.url must be like http://127.0.0.1:8000/v1" in message
    assert "hunter2" not in message


def test_once_a_budget_of_tokens_is_reached_no_batch_begins(tmp_path: Path) -> None:
    with faulty(OK) as server:
        file = described(tmp_path, url=server.url, max_tokens=10)
        backend = open_server(file)
        for _ in range(2):
            complete(backend)
            backend.count(["prompt 0"], 3, 2)  # as every answer has it: 2 batches of 5 are the budget
        message = refused(lambda: complete(backend))
    assert len(server.requests) == 2
    assert f"max_tokens is 10, and 10 are spent; raise max_tokens in {file}" in message
    assert "finished batches are kept" in message


def test_batches_of_an_earlier_run_count_too(tmp_path: Path) -> None:
    backend = open_server(described(tmp_path, max_tokens=10))
    backend.count(["prompt 0", "prompt 1"], 6, 4)
    assert "10 are spent" in refused(lambda: complete(backend))


def test_a_budget_of_money_counts_prompts_and_completions_at_their_prices(tmp_path: Path) -> None:
    with faulty(OK) as server:
        backend = open_server(described(tmp_path, url=server.url, price_in=1.0, price_out=4.0, max_money=3.0))
        # 1 M tokens of prompts at 1 a million, and 0.5 M of completions at 4 a million: 1 + 2 = 3.
        backend.count(["prompt"], 1_000_000, 499_999)
        assert complete(backend) == ["ok"]
        backend.count(["prompt"], 0, 1)
        assert "max_money is 3.0, and 3.0 are spent" in refused(lambda: complete(backend))


def test_without_a_limit_nothing_is_too_much(tmp_path: Path) -> None:
    with faulty(OK) as server:
        backend = open_server(described(tmp_path, url=server.url, price_in=1.0))
        backend.count(["prompt"], 10**12, 10**12)
        assert complete(backend) == ["ok"]
