"""The interface of back ends: prompts and decoding settings in, completions out."""

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Completion:
    """What a model wrote in reply to a prompt.

    finish: "stop" where it ended its turn, "length" if it was cut off, "program" if it was stopped after its program.
    """

    text: str
    n_prompt_tokens: int
    n_tokens: int
    finish: str


@dataclass(frozen=True)
class Decoding:
    """How tokens are drawn: temperature > 0, nucleus of probability top_p in (0, 1], at most max_new_tokens."""

    temperature: float
    top_p: float
    max_new_tokens: int


class Backend(Protocol):
    """A model that completes prompts.

    revision: identifies exactly this model, as far as the back end can tell. run_settings: what else decides its
    completions, such as the number of threads. prices: money per million tokens of prompts and of completions; 0 where
    it is free.
    """

    revision: str
    run_settings: dict[str, Any]
    prices: tuple[float, float]

    def complete(self, prompts: list[str], *, seed: int, decoding: Decoding) -> list[Completion]:
        """Return one completion per prompt, in order. Equal arguments give equal ones if the back end can be seeded."""
        ...

    def count(self, prompts: list[str], n_prompt_tokens: int, n_tokens: int) -> None:
        """Take note of a finished batch. Called in order, for the batches of an earlier, killed run too."""
        ...


def start_seed(*parts: str | int) -> int:
    """Return a 32-bit seed for one batch, different for different parts, whatever seeds params.yaml sets."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "little")
