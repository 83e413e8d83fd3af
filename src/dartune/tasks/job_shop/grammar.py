"""Programs for the embedded base model to learn from: mostly mediocre, in five families over times of operations."""

from random import Random

from dartune.tasks.grammar import combine, extreme_of, indent, terms_in_order, weighted

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
    families = {whole: 4, near: 3, loop: 5, stages: 3, sort: 1}
    (family,) = rng.choices(list(families), list(families.values()))
    return "\n".join(HEAD + indent(family(rng))) + "\n"


def whole(rng: Random) -> list[str]:
    """The extreme of a vector over all jobs that can start."""
    return vector(rng, "available")


def near(rng: Random) -> list[str]:
    """The same over the k jobs of the shortest or longest operations, or of the most work."""
    key = weighted(
        rng,
        {
            "times[available, position[available]]": 3,
            "-times[available, position[available]]": 2,
            "-times[available].sum(axis=1)": 2,
            "position[available]": 1,
        },
    )
    return [f"order = np.argsort({key})", f"near = available[order[:{rng.choice(N_LEFT)}]]", *vector(rng, "near")]


def stages(rng: Random) -> list[str]:
    """One rule while there is much left, another later."""
    test = weighted(
        rng,
        {
            f"len(available) > {rng.choice(N_LEFT)}": 3,
            f"position.mean() < {rng.choice(N_LEFT)}": 3,
            f"times[available, position[available]].min() < {rng.choice(SHORT)}": 2,
        },
    )
    early, late = (rng.choice([whole, near, loop])(rng) for _ in range(2))
    return [f"if {test}:", *indent(early), *late]


def sort(rng: Random) -> list[str]:
    """A position in the order of a vector."""
    position = weighted(rng, {"0": 2, "-1": 2, "len(order) // 2": 1, "len(order) // 3": 1})
    return [*vector(rng, "available")[:-1], "order = np.argsort(s)", f"return available[order[{position}]]"]


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
    worst, better = ("1e9", "<") if rng.random() < 0.5 else ("-1e9", ">")
    body = [*(terms[name] for name in sorted(names)), *combine(rng, names, "max", "min"), f"if s {better} best:"]
    body += indent(["best = s", "choice = job"])
    return [f"best = {worst}", "choice = available[0]", "for job in available:", *indent(body), "return choice"]
