"""A server of completions that answers as a test says, and what describes a server to dartune."""

import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dartune.models.backend import Backend, Decoding

DECODING = Decoding(temperature=1.0, top_p=1.0, max_new_tokens=16)
MISSING = object()
DESCRIPTION: dict[str, Any] = {
    "url": "http://127.0.0.1:8000/v1",
    "model": "base",
    "key": None,
    "concurrency": 8,
    "requests_per_minute": None,
    "timeout_s": 5,
    "retries": 2,
    "price_in": 0.0,
    "price_out": 0.0,
    "max_tokens": None,
    "max_money": None,
}


def described(folder: Path, **changes: Any) -> Path:
    """A server's file."""
    file = folder / "server.yaml"
    content = {key: value for key, value in (DESCRIPTION | changes).items() if value is not MISSING}
    with file.open("w") as stream:
        YAML().dump(content, stream)
    return file


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers, two minutes at most: it imports torch, beside other tests."""
    for _ in range(1200):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.URLError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


Answer = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    server: "Faulty"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.begin(request, self.headers["Authorization"])
        with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up
            answer(self, request)

    def log_message(self, *_: Any) -> None:
        """Nothing: what the tests read is the client's."""


class Faulty(ThreadingHTTPServer):
    """Answers each request by the next of its answers, and all further ones by the last. Keeps what it was asked."""

    request_queue_size = 128

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.starts: list[float] = []
        self._answers, self._lock = answers, threading.Lock()

    def begin(self, request: dict[str, Any], authorization: str | None) -> Answer:
        with self._lock:
            self.starts.append(time.monotonic())
            self.authorizations.append(authorization)
            self.requests.append(request)
            return self._answers[min(len(self.requests), len(self._answers)) - 1]


@contextmanager
def faulty(*answers: Answer) -> Iterator[Faulty]:
    with Faulty(*answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def sent(handler: BaseHTTPRequestHandler, status: int, content: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def body(text: str | None = "ok", finish: str | None = "stop", **changes: Any) -> dict[str, Any]:
    """An answer as the protocol has it: 3 tokens of a prompt and 2 of a completion."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "base", "usage": usage}
    return whole | {"choices": [{"index": 0, "message": message, "finish_reason": finish}]} | changes


def says(content: Any, status: int = 200, **headers: str) -> Answer:
    """Sends a JSON value, or bytes as they are."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda handler, _: sent(handler, status, raw, **headers)


def error(status: int, message: str = "no", **headers: str) -> Answer:
    return says({"error": {"message": message, "type": "t", "code": None}}, status, **headers)


def cut(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    """Half of an answer."""
    raw = json.dumps(body()).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(raw)))
    handler.end_headers()
    handler.wfile.write(raw[: len(raw) // 2])


def drip(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
    """One byte each 0.1 s, for 10 s at most."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


OK = says(body())


def complete(server: Backend, n: int = 1) -> list[str]:
    answers = server.complete([f"prompt {number}" for number in range(n)], seed=0, decoding=DECODING)
    return [answer.text for answer in answers]
