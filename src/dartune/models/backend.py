"""What every back end takes and returns: prompts and decoding settings, completions."""

import hashlib
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Completion:
    """What a model wrote to a prompt. finish: "stop" where it ended its turn, "length" where it was cut."""

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
        """Return one completion a prompt, in order. Equal arguments give equal ones if the back end can be seeded."""
        ...

    def count(self, prompts: list[str], n_prompt_tokens: int, n_tokens: int) -> None:
        """Hear of each finished batch, in order, including those that an earlier, killed run finished."""
        ...


def start_seed(*parts: str | int) -> int:
    """Return a 32-bit seed for one batch. Stages, tasks and models never share one, whatever seeds params.yaml sets."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "little")
