"""Any OpenAI-compatible server (vLLM, llama.cpp, Ollama, hosted), described by a file such as servers/local.yaml.

One request a prompt. What passes by itself is asked again: 408, 409, 429, 5xx, broken connections, and answers that are
late or not what the protocol says. All else is a person's to mend and said at once. The key stands in the environment
only: where a server repeats it, in an error or in a completion, [key] stands instead.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import Random
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, PositiveInt, SecretStr

from dartune import params
from dartune.errors import UserError
from dartune.models.backend import Completion, Decoding

BACK_OFF_S = 1.0  # after the first failure; twice as much after each further one
MAX_WAIT_S = 120.0  # whatever the server asks for
COUNTS = range(2**31)  # of tokens that one answer can have
NO_KEY = "none"  # sent where none is needed, since the client sends one always
LINE = 200  # characters of what a server says that stand in an error
LOOPBACK = ("localhost", "127.0.0.1", "::1")
PASSING = (408, 409, 429)  # and all from 500 on
ENDS = ("stop", "tool_calls", "function_call")  # the model ended its turn; in any other case it was cut
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # NUL and halves of characters, which no UTF-8 text can hold

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Failure:
    """Why a request should be made again, and how long the server asks to wait before that."""

    reason: str
    wait_s: float = 0.0


@dataclass
class OpenAIBackend:
    """A back end. Its keyword-only arguments are the keys of the file.

    key: name of the environment variable that holds the key; None where the server wants none. concurrency: requests
    under way at once. requests_per_minute: kept by the distance between their starts, those of retries too.
    timeout_s: for one request as a whole. price_in, price_out: money per million tokens of prompts and of completions.
    max_tokens: of prompts and completions together, for one pool, as max_money: no batch begins once one is reached.
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
        self._chance = Random()  # of back-off only
        self._next_start = 0.0  # seconds of time.monotonic
        self._n_prompt_tokens = self._n_tokens = 0  # of finished batches

    def complete(self, prompts: list[str], *, seed: int, decoding: Decoding) -> list[Completion]:
        """One completion a prompt, in order. Each has a seed of its own; whether seeds count is the server's choice."""
        self._check_budget()
        seeds = Random(seed).sample(range(1, 2**31), len(prompts))  # some servers take 0 for "none"
        requests = [self._request(prompt, each, decoding) for prompt, each in zip(prompts, seeds, strict=True)]
        return asyncio.run(self._complete(requests))

    def count(self, prompts: list[str], n_prompt_tokens: int, n_tokens: int) -> None:
        """Add a finished batch to what is spent. Requests that failed are in no batch, though some servers charge."""
        self._n_prompt_tokens += n_prompt_tokens
        self._n_tokens += n_tokens

    def _check_budget(self) -> None:
        """Raise a UserError where the finished batches reach a limit. A batch that has begun is always finished."""
        money = (self._n_prompt_tokens * self.price_in + self._n_tokens * self.price_out) / 1e6
        for name, spent, limit in (
            ("max_tokens", self._n_prompt_tokens + self._n_tokens, self.max_tokens),
            ("max_money", round(money, 6), self.max_money),
        ):
            if limit is not None and spent >= limit:
                raise UserError(
                    f"{self.file}: {name} is {limit}, and {spent} are spent; raise {name} in {self.file} and run again:"
                    " finished batches are kept"
                )

    def _request(self, prompt: str, seed: int, decoding: Decoding) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "max_tokens": decoding.max_new_tokens,
            "seed": seed,
        }

    async def _complete(self, requests: list[dict[str, Any]]) -> list[Completion]:
        """All answers, or the first UserError: then requests under way are given up."""
        slots = asyncio.Semaphore(self.concurrency)

        async def one(request: dict[str, Any]) -> Completion:
            async with slots:  # kept while waiting, so that a server that is overrun is asked less
                return await self._answer(client, request)

        try:
            async with self._client() as client, asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(request)) for request in requests]
        except ExceptionGroup as failures:
            first = failures.exceptions[0]
        else:
            return [task.result() for task in tasks]
        raise first

    def _client(self) -> Any:
        """A client. Proxies of the environment are for other machines, and its OPENAI_API_KEY is for another server."""
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        key = self._secret.get_secret_value()
        return AsyncOpenAI(
            base_url=self.url,
            api_key=key,
            default_headers={"Authorization": f"Bearer {key}"},  # else OPENAI_CUSTOM_HEADERS could replace it
            max_retries=0,
            timeout=None,
            http_client=DefaultAsyncHttpxClient(trust_env=urlsplit(self.url).hostname not in LOOPBACK),
        )

    async def _answer(self, client: Any, request: dict[str, Any]) -> Completion:
        """Ask until there is an answer, at most `retries` times again."""
        n_failures = 0
        while isinstance(answer := await self._ask(client, request), Failure):
            n_failures += 1
            if n_failures > self.retries:
                raise UserError(
                    f"{self.url}: {answer.reason}; asked {n_failures} times. See if the server runs and what it logs"
                    f", or raise retries or timeout_s in {self.file}; finished batches are kept"
                )
            back_off = BACK_OFF_S * 2 ** (n_failures - 1) * self._chance.uniform(0.5, 1)
            await asyncio.sleep(min(max(back_off, answer.wait_s), MAX_WAIT_S))
        return answer

    async def _ask(self, client: Any, request: dict[str, Any]) -> Completion | Failure:
        import openai

        await self._turn()
        try:
            async with asyncio.timeout(self.timeout_s):  # the client's own counts anew with each byte that comes
                response = await client.chat.completions.with_raw_response.create(**request)
        except TimeoutError:
            return Failure(f"no whole answer within timeout_s: {self.timeout_s}")
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            return Failure(f"the connection failed ({type(cause).__name__}: {self._line(str(cause))})")
        except openai.APIStatusError as error:
            response = error.response
        # Outside of the handlers: else the client's error, which may hold the key, would be the UserError's context.
        return self._judged(response.status_code, response.headers, parsed(response.content))

    async def _turn(self) -> None:
        """Wait until this request may start."""
        now = time.monotonic()
        start = max(now, self._next_start)
        self._next_start = start + (60 / self.requests_per_minute if self.requests_per_minute else 0.0)
        await asyncio.sleep(start - now)

    def _judged(self, status: int, headers: Mapping[str, str], body: Any) -> Completion | Failure:
        """The answer in a response; a UserError where asking again is of no use."""
        said = f": {line}" if (line := self._line(message(body))) else ""
        if status in PASSING or status >= 500:
            return Failure(f"HTTP {status}{said}", asked_wait_s(headers.get("retry-after", "")))
        if status != 200:
            raise UserError(f"{self.file}: {self.url} answered HTTP {status}{self._advice(status, said)}")
        if lacks_usage(body):
            raise UserError(
                f"{self.file}: {self.url} does not report usage, by which tokens and money are counted; turn it on"
                " there, or take a server that does"
            )
        found = completion(body)
        return self._stored(found) if found else Failure(f"an answer that is no chat completion{said}")

    def _advice(self, status: int, said: str) -> str:
        """What to do about an answer. One about the key is not repeated: servers show parts of it."""
        if status not in (401, 403):
            return (
                f"{said}; correct url or model there, or what is sent: max_new_tokens, temperature, top_p, the prompts"
            )
        if self.key is None:
            return ": it wants a key; name there, as key, the environment variable that holds it"
        return f": it does not accept the key in the environment variable {self.key}; set it to another"

    def _stored(self, found: Completion) -> Completion:
        text = UNSTORABLE.sub("\ufffd", self._without_key(found.text))
        return Completion(text, found.n_prompt_tokens, found.n_tokens, found.finish)

    def _without_key(self, text: str) -> str:
        return text if self.key is None else text.replace(self._secret.get_secret_value(), "[key]")

    def _line(self, said: str) -> str:
        """The first line of what a server said, as a person can read it."""
        first = next(iter(said.strip().splitlines()), "")
        return self._without_key("".join(c for c in first if c.isprintable()))[:LINE]


def open_server(file: Path) -> OpenAIBackend:
    """The server that a YAML file describes."""
    values = params.read(file)
    check_name(values.get("key"), file)
    return OpenAIBackend(file, **params.check("server", values, OpenAIBackend, file))


def check_name(key: Any, file: Path) -> None:
    """A UserError about what is no name of an environment variable. It may be a key, so it is not repeated."""
    if key is not None and not (isinstance(key, str) and re.fullmatch("[A-Z_][A-Z0-9_]*", key)):
        raise UserError(
            f"{file}: server.key is no name of an environment variable, such as SERVER_KEY; the key itself belongs into"
            " that variable, and its name here, or null for a server that wants none"
        )


def read_key(name: str | None, file: Path) -> SecretStr:
    """What the environment variable holds."""
    key = NO_KEY if name is None else os.environ.get(name, "").strip()
    if not key:
        raise UserError(f"{file}: server.key: the environment variable {name} is not set; set it to the server's key")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError(
            f"{file}: server.key: what the environment variable {name} holds is no key: it has blanks or signs"
        )
    return SecretStr(key)


def checked_url(url: str, file: Path) -> str:
    """The address without a slash at its end. What is wrong is not repeated: it may hold a password."""
    try:
        is_url = re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", url) and urlsplit(url).port != 0
    except ValueError:  # no number, or none of a port
        is_url = False
    if not is_url:
        raise UserError(
            f"{file}: server.url must be like http://127.0.0.1:8000/v1: http or https, a host, a port, a path, and no"
            " user, password or query"
        )
    return url.rstrip("/")


def parsed(content: bytes) -> Any:
    """The JSON value; None where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def message(body: Any) -> str:
    """What a server says about an error, in the shapes of OpenAI, vLLM, Ollama and FastAPI."""
    match body:
        case (
            {"error": {"message": str(text)}}
            | {"error": str(text)}
            | {"message": str(text)}
            | {"detail": str(text)}
            | {"detail": [{"msg": str(text)}, *_]}
        ):
            return text
        case _:
            return ""


def lacks_usage(body: Any) -> bool:
    """Whether this is an answer that would do but for the counts of tokens."""
    return isinstance(body, dict) and bool(body.get("choices")) and body.get("usage") is None


def completion(body: Any) -> Completion | None:
    """The first choice of an answer; None where something is missing or of another type."""
    match body:
        case {
            "choices": [{"message": {**said}, **choice}, *_],
            "usage": {"prompt_tokens": int(n_prompt_tokens), "completion_tokens": int(n_tokens)},
        } if n_prompt_tokens in COUNTS and n_tokens in COUNTS:
            text = said.get("content")  # null where the model only called a tool, or thought until it was cut
            finish = "stop" if choice.get("finish_reason") in ENDS else "length"
            return Completion(text or "", n_prompt_tokens, n_tokens, finish) if isinstance(text, str | None) else None
        case _:
            return None


def asked_wait_s(retry_after: str) -> float:
    """Seconds of a Retry-After header, which holds them or a date; 0 where it holds neither."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
