"""Completions from a model: what every back end takes and gives."""

import hashlib
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt. finish: "stop" where it ended its turn, "length" where it was cut."""

    text: str
    n_prompt_tokens: int
    n_tokens: int
    finish: str


@dataclass(frozen=True)
class Decoding:
    """How tokens are drawn: temperature above 0, nucleus of probability top_p in (0, 1], at most max_new_tokens."""

    temperature: float
    top_p: float
    max_new_tokens: int


class Backend(Protocol):
    """A model that completes prompts.

    revision: a name for exactly this model, as far as the back end can tell. prices: money per million tokens of
    prompts and of completions; 0 where nobody asks for any.
    """

    revision: str
    prices: tuple[float, float]

    def complete(self, prompts: list[str], *, seed: int, decoding: Decoding) -> list[Completion]:
        """One completion a prompt, in order. The same arguments give the same ones where the back end can be seeded."""
        ...

    def count(self, prompts: list[str], n_prompt_tokens: int, n_tokens: int) -> None:
        """Take note of a finished batch, in order, also of those that an earlier run finished."""
        ...


def start_seed(*parts: str | int) -> int:
    """A seed for one batch: stages, tasks and models never share one, whatever seeds params.yaml gives them."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "little")
