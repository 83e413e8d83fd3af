"""Any OpenAI-compatible server (vLLM, llama.cpp, Ollama, hosted), described by a file such as servers/vllm.yaml.

One request a prompt. The client asks again after 408, 409, 429, 5xx, broken connections, and answers that are late or
are no chat completion. Everything else is for a person to fix and raises a UserError at once. The key is in the
environment only: where a server repeats it, in an error or in a completion, [key] takes its place.
"""

import asyncio
import json
import os
import random
import re
import time
from dataclasses import KW_ONLY, dataclass, field, replace
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from ssl import SSLContext
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx2
import openai
from pydantic import Field, PositiveInt, SecretStr

from dartune import params
from dartune.errors import UserError
from dartune.models.backend import Completion, Decoding

MAX_WAIT_S = 120.0  # the client gives up on servers that ask for more
COUNTS = range(2**31)  # of tokens that one answer can have
NO_KEY = "none"  # sent to servers that need no key, because the client always sends one
MAX_MESSAGE = 200  # characters of a server's message that an error repeats
LOOPBACK = ("localhost", "127.0.0.1", "::1")
TURN_ENDS = ("stop", "tool_calls", "function_call")  # the model ended its turn; with any other reason it was cut
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # NUL and half characters, which no UTF-8 text can hold

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass
class OpenAIBackend:
    """A back end. Its keyword-only arguments are the keys of the file.

    key: name of the environment variable that holds the key; None where the server needs none. concurrency: requests
    in flight at once. requests_per_minute: kept by spacing their starts, those of retries included. timeout_s: for one
    request as a whole. retries: of one request; the client waits 0.5, 1, 2, 4 s and then 8 s each, or as long as the
    server asks. price_in, price_out: money per million tokens of prompts and of completions. max_tokens: of prompts and
    completions together, for one pool; max_money alike: no batch begins once one of them is reached.
    """

    file: Path
    _: KW_ONLY
    url: str
    model: Annotated[str, Field(min_length=1)]
    key: str | None
    concurrency: Annotated[int, Field(ge=1, le=1000)]  # the client keeps no more connections
    requests_per_minute: Positive | None
    timeout_s: Positive
    retries: Annotated[int, Field(ge=0, le=100)]
    price_in: NonNegative
    price_out: NonNegative
    max_tokens: PositiveInt | None
    max_money: Positive | None
    revision: str = field(init=False)
    prices: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        self.url = checked_url(self.url, self.file)
        self.revision, self.prices = f"{self.model}@{self.url}", (self.price_in, self.price_out)
        if self.max_money is not None and not any(self.prices):
            raise UserError(f"{self.file}: server.max_money is never reached while both prices are 0; set them")
        self._secret = read_key(self.key, self.file)
        self._next_start = 0.0  # seconds of time.monotonic
        self._n_prompt_tokens = self._n_tokens = 0  # of finished batches

    def complete(self, prompts: list[str], *, seed: int, decoding: Decoding) -> list[Completion]:
        """Return one completion a prompt, in order. Raise the first UserError, after giving up the other requests.

        Each request has a seed of its own; whether the server heeds it is the server's choice.
        """
        self._check_budget()
        seeds = random.Random(seed).sample(range(1, 2**31), len(prompts))  # some servers take 0 for "none"
        limits = {"temperature": decoding.temperature, "top_p": decoding.top_p, "max_tokens": decoding.max_new_tokens}
        requests = [
            {"model": self.model, "messages": [{"role": "user", "content": prompt}], **limits, "seed": prompt_seed}
            for prompt, prompt_seed in zip(prompts, seeds, strict=True)
        ]
        state = random.getstate()  # the caller's; the client draws the jitter of its waits from the same generator
        try:
            return asyncio.run(self._complete(requests))
        finally:
            random.setstate(state)

    def count(self, prompts: list[str], n_prompt_tokens: int, n_tokens: int) -> None:
        """Add a finished batch to what is spent. Failed requests are in no batch, though some servers charge them."""
        self._n_prompt_tokens += n_prompt_tokens
        self._n_tokens += n_tokens

    async def wait_for_turn(self) -> None:
        """Return once requests_per_minute allows another request to start."""
        now = time.monotonic()
        start = max(now, self._next_start)
        self._next_start = start + (60 / self.requests_per_minute if self.requests_per_minute else 0.0)
        await asyncio.sleep(start - now)

    def answer(self, content: bytes) -> Completion:
        """Return the completion in an answer with a status of success.

        Raises Unusable where it is no chat completion, UserError where it lacks the counts of tokens.
        """
        match body := parsed(content):
            case {"choices": [_, *_]} if body.get("usage") is None:
                raise UserError(
                    f"{self.file}: {self.url} does not report usage, by which tokens and money are counted; turn it on"
                    " there, or take a server that does"
                )
        if (answer := completion(body)) is None:
            raise Unusable("an answer that is no chat completion" + self._said(body))
        return replace(answer, text=UNSTORABLE.sub("\ufffd", self._without_key(answer.text)))

    def _check_budget(self) -> None:
        """Raise a UserError where the finished batches reach a limit. A batch that has begun is always finished."""
        money = (self._n_prompt_tokens * self.price_in + self._n_tokens * self.price_out) / 1e6
        n_tokens = self._n_prompt_tokens + self._n_tokens
        limits = {"max_tokens": (n_tokens, self.max_tokens), "max_money": (round(money, 6), self.max_money)}
        for name, (spent, limit) in limits.items():
            if limit is not None and spent >= limit:
                raise UserError(
                    f"{self.file}: {name} is {limit}, and {spent} are spent; raise {name} in {self.file} and run again:"
                    " finished batches are kept"
                )

    async def _complete(self, requests: list[dict[str, Any]]) -> list[Completion]:
        slots = asyncio.Semaphore(self.concurrency)
        async with self._client() as client:

            async def answer(request: dict[str, Any]) -> Completion:
                async with slots:  # held between retries too, so that a busy server is asked less
                    return await self._ask(client, request)

            # gather raises the first failure; asyncio.run then cancels the requests that are still under way.
            return await asyncio.gather(*map(answer, requests))

    def _client(self) -> openai.AsyncOpenAI:
        key = self._secret.get_secret_value()  # and not OPENAI_API_KEY, which is for another server
        return openai.AsyncOpenAI(
            base_url=self.url,
            api_key=key,
            default_headers={"Authorization": f"Bearer {key}"},  # else OPENAI_CUSTOM_HEADERS could replace it
            max_retries=self.retries,
            timeout=None,  # HttpClient's holds
            # Proxies of the environment are for other machines.
            http_client=HttpClient(self, trust_env=urlsplit(self.url).hostname not in LOOPBACK),
        )

    async def _ask(self, client: openai.AsyncOpenAI, request: dict[str, Any]) -> Completion:
        try:
            response = await client.chat.completions.with_raw_response.create(**request)
        except openai.APIStatusError as error:
            said = f"HTTP {error.status_code}{self._said(parsed(error.response.content))}"
            failure = self._failure(error.response.request, said, error.status_code)
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            line = f"the connection failed ({type(cause).__name__}: {self._line(str(cause))})"
            failure = self._failure(error.request, str(cause) if isinstance(cause, Unusable) else line)
        else:
            completion: Completion = response.http_response.extensions["completion"]
            return completion
        raise failure  # not in a handler: there the client's error, which may hold the key, would be its context

    def _failure(self, request: Any, said: str, status: int = 500) -> UserError:
        """What a person is to do about a request that failed for good."""
        if status in (408, 409, 429) or status >= 500:  # these the client repeats
            n_asked = int(request.headers["x-stainless-retry-count"]) + 1
            return UserError(
                f"{self.url}: {said}; asked {n_asked} times. See if the server runs and what it logs, or raise retries"
                f" or timeout_s in {self.file}; finished batches are kept"
            )
        advice = "; correct url or model there, or what is sent: max_new_tokens, temperature, top_p, the prompts"
        if status in (401, 403):  # what the server said is not repeated: it may show parts of the key
            said, advice = (
                f"HTTP {status}",
                ": it wants a key; name there, as key, the environment variable that holds it",
            )
            if self.key:
                advice = f": it does not accept the key in the environment variable {self.key}; set it to another"
        return UserError(f"{self.file}: {self.url} answered {said}{advice}")

    def _said(self, body: Any) -> str:
        """What a server says about an error, after a colon, in the shapes of OpenAI, vLLM, Ollama and FastAPI."""
        match body:
            case (
                {"error": {"message": str(text)}}
                | {"error": str(text)}
                | {"message": str(text)}
                | {"detail": str(text)}
                | {"detail": [{"msg": str(text)}, *_]}
            ):
                return f": {line}" if (line := self._line(text)) else ""
        return ""

    def _line(self, text: str) -> str:
        """The first line of a text without control characters and the key, at most MAX_MESSAGE characters."""
        first = next(iter(text.strip().splitlines()), "")
        return self._without_key("".join(c for c in first if c.isprintable()))[:MAX_MESSAGE]

    def _without_key(self, text: str) -> str:
        return text if self.key is None else text.replace(self._secret.get_secret_value(), "[key]")


class Unusable(httpx2.RequestError):
    """An answer that is late or no chat completion: the client asks again, as after a broken connection."""


class HttpClient(openai.DefaultAsyncHttpxClient):
    """What the client of OpenAI does not do: it works one level below, on each attempt.

    It spaces the starts of requests, limits each as a whole (httpx's timeout starts anew with each byte), turns answers
    that are no chat completions into errors that are retried, and shortens waits for which the client would give up.
    """

    def __init__(self, backend: OpenAIBackend, *, trust_env: bool) -> None:
        super().__init__(trust_env=trust_env, verify=tls_context())
        self._backend = backend

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send one attempt when its turn comes. The extensions of a successful response hold its completion."""
        await self._backend.wait_for_turn()
        try:
            async with asyncio.timeout(self._backend.timeout_s):
                response = await super().send(request, **options)
        except TimeoutError:
            raise Unusable(f"no whole answer within timeout_s: {self._backend.timeout_s}") from None
        if response.is_success:
            response.extensions["completion"] = self._backend.answer(response.content)
        elif asked_wait_s(response.headers.get("retry-after", "")) > MAX_WAIT_S:
            response.headers["retry-after"] = str(MAX_WAIT_S)
        return response


@cache
def tls_context() -> SSLContext:
    """Return the settings of TLS connections, once a process: reading the certificates takes 0.1 s."""
    return httpx2.create_ssl_context()


def open_server(file: Path) -> OpenAIBackend:
    """Return the back end that a YAML file describes. Raises UserError about a wrong value or a missing key."""
    values = params.read(file)
    key = values.get("key")
    if key is not None and not (isinstance(key, str) and re.fullmatch("[A-Z_][A-Z0-9_]*", key)):
        raise UserError(  # the value may be the key itself, so it is not repeated
            f"{file}: server.key is no name of an environment variable, such as SERVER_KEY; the key itself belongs into"
            " that variable, and its name here, or null for a server that wants none"
        )
    return OpenAIBackend(file, **params.check("server", values, OpenAIBackend, file))


def read_key(name: str | None, file: Path) -> SecretStr:
    """Return the key in an environment variable, NO_KEY without a name. Raises UserError where it holds no key."""
    key = NO_KEY if name is None else os.environ.get(name, "").strip()
    if not key:
        raise UserError(f"{file}: server.key: the environment variable {name} is not set; set it to the server's key")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError(
            f"{file}: server.key: what the environment variable {name} holds is no key: it has blanks or signs"
        )
    return SecretStr(key)


def checked_url(url: str, file: Path) -> str:
    """Return the address without a slash at its end. Raises UserError, which repeats nothing: it may be a password."""
    try:
        is_url = re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", url) and urlsplit(url).port != 0
    except ValueError:  # the port is no number, or too large
        is_url = False
    if not is_url:
        raise UserError(
            f"{file}: server.url must be like http://127.0.0.1:8000/v1: http or https, a host, a port, a path, and no"
            " user, password or query"
        )
    return url.rstrip("/")


def parsed(content: bytes) -> Any:
    """Return the JSON value; None where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def completion(body: Any) -> Completion | None:
    """Return the first choice of an answer; None where something is missing or of another type."""
    match body:
        case {
            "choices": [{"message": {**message}, **choice}, *_],
            "usage": {"prompt_tokens": int(n_prompt_tokens), "completion_tokens": int(n_tokens)},
        } if n_prompt_tokens in COUNTS and n_tokens in COUNTS:
            text = message.get("content")  # null where the model only called a tool, or thought until it was cut
            finish = "stop" if choice.get("finish_reason") in TURN_ENDS else "length"
            return Completion(text or "", n_prompt_tokens, n_tokens, finish) if isinstance(text, str | None) else None
    return None


def asked_wait_s(retry_after: str) -> float:
    """Return the seconds of a Retry-After header, which holds them or a date; 0 where it holds neither."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
