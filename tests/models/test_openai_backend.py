"""OpenAI-compatible servers: a real one over a tiny model, and one that goes wrong in every way it is told to."""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from sysconfig import get_path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openai import _base_client

from completion_server import (
    DECODING,
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
    wait_until_healthy,
)
from dartune.models import openai_backend as module
from dartune.models.backend import Backend, Decoding
from dartune.models.openai_backend import open_server
from one_line_errors import refused
from ports import free_port

# A real server.

CHAT = "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of random weights over single bytes, which draws its tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    pieces = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=CHAT)
    tokens.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=len(pieces), bos_token_id=0, eos_token_id=1, **shape))
    network.generation_config.do_sample = True
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def real_server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Keys of the description of `transformers serve`."""
    port, log = free_port(), tmp_path_factory.mktemp("serve") / "log"
    command = [Path(get_path("scripts")) / "transformers", "serve", str(tiny_model), "--device", "cpu"]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=output, stderr=output, env=offline
        ) as process,
    ):
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/health", process, log)
            yield {"url": f"http://127.0.0.1:{port}/v1", "model": str(tiny_model), "timeout_s": 60, "retries": 0}
        finally:
            process.kill()


def test_a_real_server_completes_prompts_in_order_with_counts_and_ends(
    real_server: dict[str, Any], tmp_path: Path
) -> None:
    server: Backend = open_server(described(tmp_path, **real_server))
    prompts = ["a" * length for length in (5, 1, 9, 3)]
    answers = server.complete(prompts, seed=0, decoding=DECODING)
    # A token is a byte; the chat template adds one at the end, and `transformers serve` none of its own.
    assert [answer.n_prompt_tokens for answer in answers] == [6, 2, 10, 4]
    assert all(1 <= answer.n_tokens <= 16 for answer in answers)
    assert [answer.finish for answer in answers] == ["length" if a.n_tokens == 16 else "stop" for a in answers]
    assert len({answer.text for answer in answers}) == 4


def test_a_real_server_draws_the_same_from_the_same_seed(real_server: dict[str, Any], tmp_path: Path) -> None:
    server = open_server(described(tmp_path, **real_server, concurrency=1))  # its chance is shared by all requests
    first, again, other = (server.complete(["ab", "ab"], seed=seed, decoding=DECODING) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first[0].text != first[1].text  # equal prompts of a batch have seeds of their own


def test_a_real_servers_refusal_is_repeated(real_server: dict[str, Any], tmp_path: Path) -> None:
    server = open_server(described(tmp_path, **real_server | {"model": "other"}))
    message = refused(lambda: server.complete(["a"], seed=0, decoding=DECODING))
    assert "answered HTTP 400: Server is pinned to" in message


# A server that goes wrong.


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_base_client, "INITIAL_RETRY_DELAY", 0.01)


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
def test_a_wait_that_a_server_asks_for_is_limited(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAIT_S", 0.1)
    with faulty(error(429, Retry_After=value), OK) as server:
        assert complete(open_server(described(tmp_path, url=server.url))) == ["ok"]


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


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "stop"),
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


# Many requests.


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


def test_waiting_leaves_the_global_random_generator_as_it_was(tmp_path: Path) -> None:
    random.seed(0)
    state = random.getstate()
    with faulty(error(500), OK) as server:
        complete(open_server(described(tmp_path, url=server.url)))
    assert random.getstate() == state
