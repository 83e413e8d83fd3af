"""OpenAI-compatible servers: a real one over a tiny model, and one that goes wrong in every way it is told to."""

import os
import random
import re
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
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
    MISSING,
    OK,
    Answer,
    body,
    cut,
    described,
    drip,
    error,
    faulty,
    says,
    sent,
    wait_until_healthy,
)
from dartune.errors import UserError
from dartune.models import openai_backend as module
from dartune.models.backend import Backend, Decoding
from dartune.models.openai_backend import OpenAIBackend, open_server
from ports import free_port

DECODING = Decoding(temperature=1.0, top_p=1.0, max_new_tokens=16)
KEY = "sk-aBc/+9=%d"  # with characters that URLs, headers and formats treat in ways of their own


def refused(call: Callable[[], Any]) -> str:
    """The UserError that a call ends in, one line."""
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
    found = refused(lambda: server.complete(["a"], seed=0, decoding=DECODING))
    assert "answered HTTP 400: OpenAIBackend is pinned to" in found


# A server that goes wrong.


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_base_client, "INITIAL_RETRY_DELAY", 0.01)


def complete(server: OpenAIBackend, n: int = 1) -> list[str]:
    answers = server.complete([f"prompt {number}" for number in range(n)], seed=0, decoding=DECODING)
    return [answer.text for answer in answers]


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
def test_what_passes_by_itself_is_asked_again(fault: Answer, tmp_path: Path) -> None:
    with faulty(fault, OK) as server:
        assert complete(open_server(described(tmp_path, url=server.url))) == ["ok"]
    assert len(server.requests) == 2
    assert server.requests[0] == server.requests[1]


def test_a_server_that_never_recovers_is_asked_retries_times_again(tmp_path: Path) -> None:
    with faulty(error(500, "out of memory")) as server:
        backend = open_server(described(tmp_path, url=server.url, retries=3))
        found = refused(lambda: complete(backend))
    assert len(server.requests) == 4
    assert f"{server.url}: HTTP 500: out of memory; asked 4 times" in found
    assert "raise retries" in found


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
def test_a_server_that_says_when_to_come_back_is_believed(busy: Answer, tmp_path: Path) -> None:
    with faulty(busy, OK) as server:
        assert complete(open_server(described(tmp_path, url=server.url))) == ["ok"]
    assert 0.99 <= server.starts[1] - server.starts[0] <= 6


@pytest.mark.parametrize(
    "value", ["86400", "Fri, 31 Dec 2199 23:59:59 GMT", "9" * 400], ids=["a day", "a date", "for ever"]
)
def test_no_wait_is_longer_than_the_longest(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAIT_S", 0.1)
    with faulty(error(429, Retry_After=value), OK) as server:
        assert complete(open_server(described(tmp_path, url=server.url))) == ["ok"]


@pytest.mark.parametrize("value", ["soon", "-5", "", "nan", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_retry_after_that_says_nothing_is_no_wait(value: str, tmp_path: Path) -> None:
    with faulty(error(429, Retry_After=value), OK) as server:
        assert complete(open_server(described(tmp_path, url=server.url))) == ["ok"]
    assert server.starts[1] - server.starts[0] < 4


def test_a_server_that_drips_is_given_up_after_timeout_s(tmp_path: Path) -> None:
    with faulty(drip) as server:
        backend, start = open_server(described(tmp_path, url=server.url, timeout_s=0.35, retries=1)), time.monotonic()
        found = refused(lambda: complete(backend))
        seconds = time.monotonic() - start
    assert "no whole answer within timeout_s: 0.35; asked 2 times" in found
    assert 0.7 <= seconds <= 8  # two deadlines; the drip itself would take 10 s each time


def test_a_cut_connection_is_named(tmp_path: Path) -> None:
    with faulty(cut) as server:
        found = refused(lambda: complete(open_server(described(tmp_path, url=server.url, retries=0))))
    assert "the connection failed (RemoteProtocolError: peer closed connection" in found


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    found = refused(lambda: complete(open_server(described(tmp_path, url=url))))
    assert f"{url}: the connection failed (ConnectError" in found
    assert "asked 3 times. See if the server runs" in found


FINAL = {
    400: "This model's maximum context length is 4096 tokens",
    404: "The model `base` does not exist.",
    422: "temperature: too high",
    413: "too large",
    402: "no credit",
    301: "moved",
}


@pytest.mark.parametrize("status", FINAL)
def test_what_a_person_must_mend_is_said_at_once(status: int, tmp_path: Path) -> None:
    with faulty(error(status, FINAL[status])) as server:
        file = described(tmp_path, url=server.url)
        found = refused(lambda: complete(open_server(file)))
    assert len(server.requests) == 1
    assert f"{file}: {server.url} answered HTTP {status}: {FINAL[status]}; correct url or model there" in found


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
        found = refused(lambda: complete(open_server(described(tmp_path, url=server.url))))
    assert "answered HTTP 400; correct url or model" in found


def test_of_a_long_message_the_start_of_the_first_line_is_shown_without_controls(tmp_path: Path) -> None:
    with faulty(error(400, "\n\x1b[31mred\x07\u202e" + "x" * 1000 + "\nsecond line")) as server:
        found = refused(lambda: complete(open_server(described(tmp_path, url=server.url))))
    assert f"HTTP 400: [31mred{'x' * 193};" in found  # 200 characters in all


def test_a_server_that_counts_no_tokens_is_refused_at_once(tmp_path: Path) -> None:
    for usage in ({"usage": None}, {}):
        whole = {key: value for key, value in body().items() if key != "usage"} | usage
        with faulty(says(whole)) as server:
            found = refused(lambda: complete(open_server(described(tmp_path, url=server.url))))
        assert len(server.requests) == 1
        assert "does not report usage" in found


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


def test_waiting_does_not_touch_the_chances_of_others(tmp_path: Path) -> None:
    random.seed(0)
    state = random.getstate()
    with faulty(error(500), OK) as server:
        complete(open_server(described(tmp_path, url=server.url)))
    assert random.getstate() == state


# The key.


def test_the_key_is_sent_and_appears_nowhere_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("SERVER_KEY", f"{KEY}\n")  # a line's end is no part of a key
    echoes = {status: error(status, f"{'x' * 193}{KEY} is {KEY}") for status in (400, 401, 403, 404, 500, 200)}
    for status, echo in echoes.items():
        with faulty(echo) as server:
            backend = open_server(described(tmp_path, url=server.url, key="SERVER_KEY", retries=0))
            with pytest.raises(UserError) as caught:
                complete(backend)
        assert server.authorizations == [f"Bearer {KEY}"]
        everything = [repr(backend), str(backend), backend.revision, *traceback.format_exception(caught.value)]
        assert KEY[:6] not in "".join(everything), status
        assert all(KEY not in repr(each) for each in causes(caught.value)), status
    printed = capfd.readouterr()
    assert KEY[:6] not in printed.out + printed.err + caplog.text + (tmp_path / "server.yaml").read_text()


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception with all that led to it, shown or not."""
    if error is not None:
        yield error
        yield from causes(error.__cause__)
        yield from causes(error.__context__)


def test_a_key_that_a_server_repeats_in_a_completion_does_not_reach_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", KEY)
    with faulty(says(body(f"your key is {KEY}!"))) as server:
        assert complete(open_server(described(tmp_path, url=server.url, key="SERVER_KEY"))) == ["your key is [key]!"]


def test_a_server_that_sends_on_to_another_does_not_send_the_key_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", KEY)
    with faulty(OK) as other, faulty(says({}, 307, Location=f"{other.url}/chat/completions")) as server:
        assert complete(open_server(described(tmp_path, url=server.url, key="SERVER_KEY"))) == ["ok"]
    assert (server.authorizations, other.authorizations) == ([f"Bearer {KEY}"], [None])


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_by_its_variable(status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_KEY", KEY)
    with faulty(error(status)) as server:
        keyed = refused(lambda: complete(open_server(described(tmp_path, url=server.url, key="SERVER_KEY"))))
        plain = refused(lambda: complete(open_server(described(tmp_path, url=server.url))))
    assert len(server.requests) == 2
    assert f"HTTP {status}: it does not accept the key in the environment variable SERVER_KEY" in keyed
    assert f"HTTP {status}: it wants a key" in plain


def test_keys_of_the_environment_go_to_no_server_that_does_not_name_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer {KEY}")
    with faulty(OK) as server:
        assert complete(open_server(described(tmp_path, url=server.url))) == ["ok"]
    assert server.authorizations == ["Bearer none"]


def test_a_server_on_this_machine_is_not_asked_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with faulty(OK) as server:
        assert complete(open_server(described(tmp_path, url=server.url))) == ["ok"]


def test_a_server_elsewhere_is_asked_through_the_proxy_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(OK) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert complete(open_server(described(tmp_path, url="http://models.invalid/v1"))) == ["ok"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "the environment variable SERVER_KEY is not set"),
        ("", "the environment variable SERVER_KEY is not set"),
        (" \n", "the environment variable SERVER_KEY is not set"),
        ("two words", "SERVER_KEY holds is no key"),
        ("two\nlines", "SERVER_KEY holds is no key"),
        ("schlüssel", "SERVER_KEY holds is no key"),
    ],
)
def test_a_variable_without_a_key_is_refused_before_anything_is_sent(
    value: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVER_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SERVER_KEY", value)
    found = refused(lambda: open_server(described(tmp_path, key="SERVER_KEY")))
    assert expected in found
    assert not value or value.strip() == "" or value not in found


@pytest.mark.parametrize("key", [KEY, "sk_live_abcdef", "abc123", 123456, ["sk-a"], True, ""])
def test_a_key_in_place_of_its_variables_name_is_refused_and_not_repeated(key: Any, tmp_path: Path) -> None:
    found = refused(lambda: open_server(described(tmp_path, key=key)))
    assert "server.key is no name of an environment variable" in found
    assert not re.search("sk-a|sk_live|abc123|123456", found)


# The file and its limits.


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
    found = refused(lambda: open_server(file))
    assert found.startswith(str(file))
    assert expected in found


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
    found = refused(lambda: open_server(described(tmp_path, url=url)))
    assert "server.url must be like http://127.0.0.1:8000/v1" in found
    assert "hunter2" not in found


def test_once_a_budget_of_tokens_is_reached_no_batch_begins(tmp_path: Path) -> None:
    with faulty(OK) as server:
        file = described(tmp_path, url=server.url, max_tokens=10)
        backend = open_server(file)
        for _ in range(2):
            complete(backend)
            backend.count(["prompt 0"], 3, 2)  # as every answer has it: 2 batches of 5 are the budget
        found = refused(lambda: complete(backend))
    assert len(server.requests) == 2
    assert f"max_tokens is 10, and 10 are spent; raise max_tokens in {file}" in found
    assert "finished batches are kept" in found


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
