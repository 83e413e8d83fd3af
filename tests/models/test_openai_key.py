"""The key of an OpenAI-compatible server: sent to that server, and written nowhere."""

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from completion_server import (
    OK,
    body,
    complete,
    described,
    error,
    faulty,
    says,
)
from dartune.errors import UserError
from dartune.models.openai_backend import open_server
from one_line_errors import refused
from ports import free_port

KEY = "sk-aBc/+9=%d"  # with characters that URLs, headers and formats treat in ways of their own


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
        assert all(KEY not in repr(cause) for cause in causes(caught.value)), status
    printed = capfd.readouterr()
    assert KEY[:6] not in printed.out + printed.err + caplog.text + (tmp_path / "server.yaml").read_text()


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception with all that led to it, shown or not."""
    if error is not None:
        yield error
        yield from causes(error.__cause__)
        yield from causes(error.__context__)


def test_a_key_that_a_server_repeats_in_a_completion_is_replaced(
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
    message = refused(lambda: open_server(described(tmp_path, key="SERVER_KEY")))
    assert expected in message
    assert not value or value.strip() == "" or value not in message


@pytest.mark.parametrize("key", [KEY, "sk_live_abcdef", "abc123", 123456, ["sk-a"], True, ""])
def test_a_key_in_place_of_its_variables_name_is_refused_and_not_repeated(key: Any, tmp_path: Path) -> None:
    message = refused(lambda: open_server(described(tmp_path, key=key)))
    assert "server.key is no name of an environment variable" in message
    assert not re.search("sk-a|sk_live|abc123|123456", message)
