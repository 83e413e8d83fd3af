"""Programs for the embedded base model to learn from: mostly mediocre, in five families over times of operations."""

from random import Random

from dartune.tasks import selection
from dartune.tasks.grammar import extreme_of, terms_in_order

# The template as pretraining shows it. A copy: an edit of template.py must not train the embedded model anew.
TEMPLATE = """\
import numpy as np


def select_next_job(available: np.ndarray, position: np.ndarray, machines: np.ndarray, times: np.ndarray) -> int:

    return available[0]
"""
HEAD = ["import numpy as np", "", "", "def select_next_job(available, position, machines, times):"]
SHORT = ("10", "20", "30", "40", "50", "60")
N_LEFT = ("2", "3", "4", "5")


def draw(rng: Random) -> str:
    """One program, as the model is to write it."""
    return selection.program(rng, HEAD, {whole: 4, near: 3, loop: 5, stages: 3, sort: 1})


def whole(rng: Random) -> list[str]:
    """The extreme of a vector over all jobs that can start."""
    return vector(rng, "available")


def near(rng: Random) -> list[str]:
    """The same over the k jobs of the shortest or longest operations, or of the most work."""
    keys = {
        "times[available, position[available]]": 3.0,
        "-times[available, position[available]]": 2.0,
        "-times[available].sum(axis=1)": 2.0,
        "position[available]": 1.0,
    }
    return [*selection.best_by(rng, "available", keys, N_LEFT), *vector(rng, "near")]


def stages(rng: Random) -> list[str]:
    """One rule while there is much left, another later."""
    tests = {
        f"len(available) > {rng.choice(N_LEFT)}": 3.0,
        f"position.mean() < {rng.choice(N_LEFT)}": 3.0,
        f"times[available, position[available]].min() < {rng.choice(SHORT)}": 2.0,
    }
    return selection.in_stages(rng, tests, [whole, near, loop])


def sort(rng: Random) -> list[str]:
    """A position in the order of a vector."""
    return selection.at_position(rng, "available", vector(rng, "available"))


def vector(rng: Random, jobs: str) -> list[str]:
    """Terms as vectors over jobs, their combination, and the job of its extreme."""
    terms = {
        "p": f"p = times[{jobs}, position[{jobs}]]",
        "w": f"w = np.array([times[job, position[job]:].sum() for job in {jobs}])",
        "t": f"t = times[{jobs}].sum(axis=1)",
        "r": f"r = times.shape[1] - position[{jobs}]",
        "n": f"n = np.array([times[job, position[job] + 1:][:1].sum() for job in {jobs}])",
        "m": f"m = np.array([(machines == machines[job, position[job]]).argmax(axis=1).mean() for job in {jobs}])",
    }
    return extreme_of(rng, jobs, terms, {"p": 5, "w": 4, "t": 1, "r": 2, "n": 2, "m": 0.5})


def loop(rng: Random) -> list[str]:
    """The best job by a score computed one by one."""
    terms = {
        "p": "p = times[job, position[job]]",
        "w": "w = times[job, position[job]:].sum()",
        "t": "t = times[job].sum()",
        "r": "r = times.shape[1] - position[job]",
        "x": "x = times[job, position[job]:].max()",
    }
    names = terms_in_order(rng, {"p": 5, "w": 4, "t": 1, "r": 2, "x": 1})
    return selection.loop(rng, "available", "job", terms, names, least=0.5)
