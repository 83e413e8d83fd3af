"""Programs for the embedded model to learn from, mostly mediocre. Other models need none: delete this file then."""

from random import Random

from dartune.tasks import selection
from dartune.tasks.grammar import extreme_of, terms_in_order

# The template as pretraining shows it. A copy: an edit of template.py must not train the embedded model anew.
TEMPLATE = """\
import numpy as np


def select_next_job(waiting: np.ndarray, hours: np.ndarray, weights: np.ndarray) -> int:

    return waiting[0]
"""
HEAD = ["import numpy as np", "", "", "def select_next_job(waiting, hours, weights):"]
N_JOBS = ("2", "3", "5", "8", "10", "15")


def draw(rng: Random) -> str:
    """One program, as the model is to write it."""
    return selection.program(rng, HEAD, {whole: 4, near: 3, loop: 4, stages: 3})


def whole(rng: Random) -> list[str]:
    """The extreme of a vector over all jobs that wait."""
    return vector(rng, "waiting")


def near(rng: Random) -> list[str]:
    """The same over the k jobs of the fewest or most hours, or of the most weight."""
    keys = {"hours[waiting]": 2.0, "-hours[waiting]": 1.0, "-weights[waiting]": 2.0}
    return [*selection.best_by(rng, "waiting", keys, N_JOBS), *vector(rng, "near")]


def stages(rng: Random) -> list[str]:
    """One rule while many jobs wait, another later."""
    return selection.in_stages(rng, {f"len(waiting) > {rng.choice(N_JOBS)}": 1.0}, [whole, near, loop])


def vector(rng: Random, jobs: str) -> list[str]:
    """Terms as vectors over jobs, their combination, and the job of its extreme."""
    terms = {
        "h": f"h = hours[{jobs}]",
        "w": f"w = weights[{jobs}]",
        "m": f"m = np.abs(hours[{jobs}] - hours[waiting].mean())",
    }
    return extreme_of(rng, jobs, terms, {"h": 4, "w": 4, "m": 1})


def loop(rng: Random) -> list[str]:
    """The best job by a score computed one by one."""
    terms = {"h": "h = hours[job]", "w": "w = weights[job]", "r": "r = hours[waiting].sum() - hours[job]"}
    names = terms_in_order(rng, {"h": 4, "w": 4, "r": 1})
    return selection.loop(rng, "waiting", "job", terms, names, least=0.5)
