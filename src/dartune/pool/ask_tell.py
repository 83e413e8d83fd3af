"""What a search method asks for and is told: the interface of the modules in search/.

A method is a class Search(task, start, **options) with

- size: how many proposals it makes at a time
- ask(rng, n): n proposals; it changes nothing, so that what was asked before a kill need not be asked again
- tell(candidates, rng): what became of the last proposals, in their order

so what it knows is decided by its options, the start and what it was told: a search that was killed is told the
batches that it finished, and goes on. start is the task's template, judged; a method that compares nothing gets none.
"""

import re
from dataclasses import dataclass
from pathlib import Path

METHODS = Path(__file__).parent / "methods"
INDEPENDENT = "independent"  # the method that judges nothing
CODE = re.compile(r"^[ \t]*(```|import \w+\s*(,|as |$)|from \w[\w.]* import |def |class |@)", re.MULTILINE)
MAX_THOUGHT = 500  # characters


def methods() -> list[str]:
    """Names of the search methods: the files of search/."""
    return sorted(path.stem for path in METHODS.glob("[!_]*.py"))


@dataclass(frozen=True)
class Proposal:
    """A prompt, and what made it: the operation, the ids of the programs in it, and the island, -1 without islands."""

    prompt: str
    operation: str
    parents: tuple[str, ...] = ()
    island: int = -1


@dataclass(frozen=True)
class Candidate:
    """A completion with its verdict on the instances that guide the search. score: higher is better; None for failures.

    costs: per instance.
    """

    id: str
    completion: str
    program: str | None
    score: float | None
    costs: tuple[float, ...] | None
    island: int = -1

    @property
    def thought(self) -> str:
        """What the model put in braces before the code, in one line; "" where it did not."""
        code = CODE.search(self.completion)
        before = self.completion[: code.start()] if code else self.completion
        found = re.search(r"\{(.*?)\}", before, re.DOTALL)
        return " ".join(found[1].split())[:MAX_THOUGHT] if found else ""


def best(candidates: list[Candidate]) -> list[Candidate]:
    """The valid ones, the best first; of equal scores the one that came first."""
    return sorted((c for c in candidates if c.score is not None), key=lambda c: -(c.score or 0.0))
