"""The interface of the search methods, which are the modules in methods/.

A method is a class Search(task, start, **options). start is the task's template as a candidate, or None where nothing
judges programs. It has

- size: how many proposals it makes at a time
- ask(rng, n): returns n proposals and changes nothing
- tell(candidates, rng): takes what became of the last proposals, in their order

so its state follows from the options, the start and what it was told. A search that was killed is told the batches that
it had finished, and goes on from there.
"""

import re
from dataclasses import dataclass
from pathlib import Path

METHODS = Path(__file__).parent / "methods"
INDEPENDENT = "independent"  # the method whose programs nobody judges
CODE = re.compile(r"^[ \t]*(```|import \w+\s*(,|as |$)|from \w[\w.]* import |def |class |@)", re.MULTILINE)
MAX_THOUGHT = 500  # characters


def methods() -> list[str]:
    """Return the names of the search methods: the files of methods/."""
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
        """What the model put in braces before the code, on one line; "" where it did not."""
        code = CODE.search(self.completion)
        before = self.completion[: code.start()] if code else self.completion
        thought = re.search(r"\{(.*?)\}", before, re.DOTALL)
        return " ".join(thought[1].split())[:MAX_THOUGHT] if thought else ""


def best(candidates: list[Candidate]) -> list[Candidate]:
    """Return the valid candidates, the best first; equal scores in the order given."""
    return sorted((c for c in candidates if c.score is not None), key=lambda c: -(c.score or 0.0))
