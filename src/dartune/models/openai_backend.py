"""Any OpenAI-compatible server (vLLM, llama.cpp, Ollama, hosted), described by a file such as servers/vllm.yaml.

One request per prompt. The client retries after 408, 409, 429, 5xx, broken connections, and responses that are late or
not chat completions. Any other failure needs a person and raises a UserError at once. The key is read from the
environment only; where a server repeats it, in an error or a completion, it is replaced by [key].
"""

import asyncio
import json
import os
import random
import re
import time
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx2
import openai
from pydantic import Field, PositiveInt, SecretStr

from dartune import params
from dartune.errors import UserError
from dartune.models.backend import Completion, Decoding

COUNTS = range(2**31)  # plausible numbers of tokens in one response
NO_KEY = "none"  # sent where no key is needed, because the client always sends one
MAX_MESSAGE = 200  # characters of a server's message that an error quotes
LOOPBACK = ("localhost", "127.0.0.1", "::1")
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # NUL, and lone surrogates, which UTF-8 cannot encode

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass
class OpenAIBackend:
    """A back end. The keyword-only arguments are the keys of the YAML file.

    key: name of the environment variable that holds the key; None where the server needs none. concurrency: requests
    in flight at once. requests_per_minute: enforced by spacing the starts of requests, including retries. timeout_s:
    for one request as a whole. retries: per request, after 0.5, 1, 2, 4, 8, 8, ... s or as long as the server asks; one
    that asks for more than two minutes is not asked again.
    price_in, price_out: money per million tokens of prompts and of completions. max_tokens: of prompts and completions
    together, for one pool; max_money likewise: no batch begins once either is reached. Raises UserError about a bad
    address, a missing key, or max_money without prices.
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
    run_settings: dict[str, Any] = field(init=False, default_factory=dict)
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
        """Return one completion per prompt, in order. At the first UserError, cancel all other requests and raise it.

        Each request has a different seed, which the server may ignore.
        """
        self._check_budget()
        seeds = random.Random(seed).sample(range(1, 2**31), len(prompts))  # some servers take 0 for "none"
        limits = {"temperature": decoding.temperature, "top_p": decoding.top_p, "max_tokens": decoding.max_new_tokens}
        requests = [
            {"model": self.model, "messages": [{"role": "user", "content": prompt}], **limits, "seed": prompt_seed}
            for prompt, prompt_seed in zip(prompts, seeds, strict=True)
        ]
        return asyncio.run(self._complete(requests))

    def count(self, prompts: list[str], n_prompt_tokens: int, n_tokens: int) -> None:
        """Add a finished batch to what is spent. Failed requests do not count, though some servers charge for them."""
        self._n_prompt_tokens += n_prompt_tokens
        self._n_tokens += n_tokens

    async def wait_for_turn(self) -> None:
        """Return once requests_per_minute allows another request to start."""
        now = time.monotonic()
        start = max(now, self._next_start)
        self._next_start = start + (60 / self.requests_per_minute if self.requests_per_minute else 0.0)
        await asyncio.sleep(start - now)

    def answer(self, content: bytes) -> Completion:
        """Return the completion in the body of a successful response.

        Raises Unusable if it is not a chat completion, UserError if the token counts are missing.
        """
        body = parsed(content)
        if isinstance(body, dict) and body.get("choices") and body.get("usage") is None:
            raise UserError(
                f"{self.file}: {self.url} does not report usage, by which tokens and money are counted; turn it on"
                " there, or take a server that does"
            )
        if (answer := completion(body)) is None:
            raise Unusable("an answer that is no chat completion" + self._said(body))
        return replace(answer, text=UNSTORABLE.sub("\ufffd", self._without_key(answer.text)))

    def _check_budget(self) -> None:
        """Raise a UserError if the finished batches reach a limit. Checked before a batch, never during one."""
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
            # gather raises the first failure; asyncio.run then cancels the requests still in flight.
            return await asyncio.gather(*(self._ask(client, slots, request) for request in requests))

    def _client(self) -> openai.AsyncOpenAI:
        key = self._secret.get_secret_value()  # rather than OPENAI_API_KEY, which belongs to another server
        return openai.AsyncOpenAI(
            base_url=self.url,
            api_key=key,
            default_headers={"Authorization": f"Bearer {key}"},  # else OPENAI_CUSTOM_HEADERS could replace it
            max_retries=self.retries,
            timeout=None,  # HttpClient has one
            # Proxies set in the environment are meant for other machines.
            http_client=HttpClient(self, trust_env=urlsplit(self.url).hostname not in LOOPBACK),
        )

    async def _ask(self, client: openai.AsyncOpenAI, slots: asyncio.Semaphore, request: dict[str, Any]) -> Completion:
        try:
            async with slots:  # held between retries too, which takes load off a busy server
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
        raise failure  # outside the handlers, so that the client's error, which may hold the key, is not its context

    def _failure(self, request: Any, said: str, status: int = 500) -> UserError:
        """Return the error that says what to do about a request that finally failed."""
        if status in (408, 409, 429) or status >= 500:  # the client has retried these
            n_asked = int(request.headers["x-stainless-retry-count"]) + 1
            return UserError(
                f"{self.url}: {said}; asked {n_asked} times. See if the server runs and what it logs, or raise retries"
                f" or timeout_s in {self.file}; finished batches are kept"
            )
        advice = "; correct url or model there, or what is sent: max_new_tokens, temperature, top_p, the prompts"
        if status in (401, 403):  # the server's message is left out, as it may show parts of the key
            said = f"HTTP {status}"
            advice = ": it wants a key; name there, as key, the environment variable that holds it"
            if self.key:
                advice = f": it does not accept the key in the environment variable {self.key}; set it to another"
        return UserError(f"{self.file}: {self.url} answered {said}{advice}")

    def _said(self, body: Any) -> str:
        """Return ": " and the message in an error response of OpenAI, vLLM, Ollama or FastAPI; "" without one."""
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
        """Return the first line of a text without control characters and key, at most MAX_MESSAGE characters."""
        first = next(iter(text.strip().splitlines()), "")
        return self._without_key("".join(c for c in first if c.isprintable()))[:MAX_MESSAGE]

    def _without_key(self, text: str) -> str:
        return text if self.key is None else text.replace(self._secret.get_secret_value(), "[key]")


class Unusable(httpx2.RequestError):
    """A response that is late or not a chat completion. The client retries, as after a broken connection."""


class HttpClient(openai.DefaultAsyncHttpxClient):
    """Adds what OpenAI's client lacks to every attempt, retries included.

    It spaces the starts of requests, limits the duration of a whole request (httpx's timeout restarts with each byte),
    and makes the client retry responses that are not chat completions.
    """

    def __init__(self, backend: OpenAIBackend, *, trust_env: bool) -> None:
        super().__init__(trust_env=trust_env)
        self._backend = backend

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send one attempt when its turn comes. A successful response has its completion in `extensions`.

        Raises Unusable where the response is late or not a chat completion.
        """
        await self._backend.wait_for_turn()
        try:
            async with asyncio.timeout(self._backend.timeout_s):
                response = await super().send(request, **options)
        except TimeoutError:
            raise Unusable(f"no whole answer within timeout_s: {self._backend.timeout_s}") from None
        if response.is_success:
            response.extensions["completion"] = self._backend.answer(response.content)
        return response


def open_server(file: Path) -> OpenAIBackend:
    """Return the back end that a YAML file describes. Raises UserError about an invalid value or a missing key."""
    values = params.read(file)
    key = values.get("key")
    if key is not None and not (isinstance(key, str) and re.fullmatch("[A-Z_][A-Z0-9_]*", key)):
        raise UserError(  # which does not quote the value: it may be the key itself
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
    """Return the address without a trailing slash. Raises UserError that does not quote it: it may hold a password."""
    try:
        is_url = re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", url) and urlsplit(url).port != 0
    except ValueError:  # the port is not a number, or too large
        is_url = False
    if not is_url:
        raise UserError(
            f"{file}: server.url must be like http://127.0.0.1:8000/v1: http or https, a host, a port, a path, and no"
            " user, password or query"
        )
    return url.rstrip("/")


def parsed(content: bytes) -> Any:
    """Return the JSON value; None where the content does not parse."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def completion(body: Any) -> Completion | None:
    """Return the first choice of a chat completion; None where something is missing or has the wrong type."""
    match body:
        case {
            "choices": [{"message": {**message}, **choice}, *_],
            "usage": {"prompt_tokens": int(n_prompt_tokens), "completion_tokens": int(n_tokens)},
        } if n_prompt_tokens in COUNTS and n_tokens in COUNTS:
            text = message.get("content")  # null if the model only called a tool, or was cut off while thinking
            finish = "stop" if choice.get("finish_reason") == "stop" else "length"
            return Completion(text or "", n_prompt_tokens, n_tokens, finish) if isinstance(text, str | None) else None
    return None
