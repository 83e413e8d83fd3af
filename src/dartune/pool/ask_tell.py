"""The interface of the search methods, one module each in methods/.

A method is a class Search(task, start, **options). start: the task's template as a candidate, or None without a
referee. It has

- size: the number of proposals that it makes at a time
- ask(rng, n): returns n proposals and changes no state
- tell(candidates, rng): takes the results of the last proposals, in their order

so that its state depends only on the options, the start and the results. A search that was killed gets the results of
its finished batches again, and continues from there.
"""

import re
from dataclasses import dataclass
from pathlib import Path

METHODS = Path(__file__).parent / "methods"
INDEPENDENT = "independent"  # the method that needs no referee
CODE = re.compile(r"^[ \t]*(```|import \w+\s*(,|as |$)|from \w[\w.]* import |def |class |@)", re.MULTILINE)
MAX_THOUGHT = 500  # characters


def methods() -> list[str]:
    """Return the names of the search methods: the files of methods/."""
    return sorted(path.stem for path in METHODS.glob("[!_]*.py"))


@dataclass(frozen=True)
class Proposal:
    """A prompt with its operation, the ids of the programs that it shows, and its island, -1 without islands."""

    prompt: str
    operation: str
    parents: tuple[str, ...] = ()
    island: int = -1


@dataclass(frozen=True)
class Candidate:
    """A completion with its verdict. score: higher is better, None for failures. costs: per instance.

    Both on the instances that guide the search.
    """

    id: str
    completion: str
    program: str | None
    score: float | None
    costs: tuple[float, ...] | None
    island: int = -1

    @property
    def thought(self) -> str:
        """What the model wrote in braces before the code, as one line; "" if nothing."""
        code = CODE.search(self.completion)
        before = self.completion[: code.start()] if code else self.completion
        thought = re.search(r"\{(.*?)\}", before, re.DOTALL)
        return " ".join(thought[1].split())[:MAX_THOUGHT] if thought else ""


def best(candidates: list[Candidate]) -> list[Candidate]:
    """Return the valid candidates, best first; equal scores stay in order."""
    return sorted((c for c in candidates if c.score is not None), key=lambda c: -(c.score or 0.0))
