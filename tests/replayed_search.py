"""Searches over a back end whose completions depend on the prompt and the seed alone."""

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from dartune.models.backend import Completion, Decoding
from dartune.pool.prompts import renamed
from dartune.pool.search_loop import SearchSpec, run_searches
from dartune.referee.referee import Referee
from dartune.tasks.task import Task

TASK = Task("tsp_construct")
NAME = TASK.function
DECODING = Decoding(temperature=1.0, top_p=1.0, max_new_tokens=256)
OPTIONS: dict[str, dict[str, Any]] = {
    "independent": {},
    "climb": {"n_children": 6},
    "eoh": {"population": 6, "n_parents": 2},
    "funsearch": {"n_islands": 2, "n_prompts": 2, "n_samples": 3, "n_versions": 2}
    | {"temperature": 0.1, "period": 100, "reset_every": 20},
}
SEARCHES = [name for name in OPTIONS if name != "independent"]
LIMITS: dict[str, Any] = {"max_slowdown": 1.0, "memory_mib": 256}
JUDGES = {"climb": True, "eoh": True, "funsearch": True, "independent": False}
POOL: dict[str, Any] = {
    "source": "unused",
    "method": "eoh",
    "n_searches": 1,
    "n_programs": 36,
    "batch_size": 12,
    "seed": 0,
} | asdict(DECODING)


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code may catch it."""


class Replaying:
    """A back end whose completions hang on the prompt and the seed alone: mostly programs of the grammar, some broken.

    asked: sizes of the batches that were asked for. counted: how many completions were told to be finished.
    """

    prices = (1.0, 2.0)

    def __init__(self, revision: str = "replayed", write: Callable[[str, Random], str] | None = None) -> None:
        self.revision, self._write = revision, write or text
        self.run_settings: dict[str, Any] = {}
        self.asked: list[int] = []
        self.counted = 0
        self.die_at: int | None = None

    def complete(self, prompts: list[str], *, seed: int, decoding: Decoding) -> list[Completion]:
        if len(self.asked) == self.die_at:
            raise Killed
        self.asked.append(len(prompts))
        texts = [self._write(prompt, Random(f"{seed}/{i}/{prompt}")) for i, prompt in enumerate(prompts)]
        return [Completion(each, len(prompt), len(each), "stop") for prompt, each in zip(prompts, texts, strict=True)]

    def count(self, prompts: list[str], n_prompt_tokens: int, n_tokens: int) -> None:
        self.counted += len(prompts)


def text(prompt: str, rng: Random) -> str:
    """A program of the grammar under the name that the prompt asks for, or one of three failures."""
    program = TASK.grammar.draw(rng)
    failures = [
        "I would take the nearest city.",
        f"```python\ndef {NAME}(a, b:\n```\n",
        program.replace("return", "return no +"),
    ]
    kind = rng.randrange(10)
    if kind < len(failures):
        return failures[kind]
    asked = re.findall(rf"^def {NAME}(?:_v(\d+))?\(", prompt, re.MULTILINE)[-1]
    return f"{{Idea {rng.randrange(100)}.}}\n```python\n{renamed(program, NAME, asked) if asked else program}```\n"


def explored(
    name: str, backend: Any, referee: Referee | None, *, n: int = 36, seed: int = 0, **changed: Any
) -> list[dict[str, Any]]:
    """The rows of a search without the seconds that they took. Finished ones are kept in the folder `kept`."""
    options, decoding = changed.get("options", OPTIONS[name]), changed.get("decoding", DECODING)
    spec = SearchSpec(TASK, name, options, n, [seed], decoding, 6 if name == "independent" else None)
    table = run_searches("pool t", spec, backend, referee, Path("kept"), limits=changed.get("limits"))
    return list(table.drop_columns("seconds").to_pylist())
