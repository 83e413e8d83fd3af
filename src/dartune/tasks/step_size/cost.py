"""The work of an integration at equal error. Runs outside the program's process and trusts none of its output."""

from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from dartune.programs.verdict import Refused
from dartune.tasks.step_size.integration import RELATIVE_TO_ABSOLUTE, Solution, derivative, integrated, replay

DIRECTION = "minimise"
OBJECTIVE = "work"
ORDER = 5  # the error falls with this power of the number of steps
EXACT = 1e-11  # relative tolerance of the solution that errors are measured from
N_TIMES, N_SIZES = 64, 256  # parts of the time, and sizes of steps a quarter of a power of two apart, of moves


class Prepared(NamedTuple):
    """An instance, and its solution as a function of the time."""

    instance: dict[str, Any]
    exact: Any


def prepare(instances: list[dict[str, Any]]) -> list[Prepared]:
    """Return the instances with their solutions, by DOP853 of scipy."""
    return [Prepared(instance, solution_of(instance)) for instance in instances]


def solution_of(instance: dict[str, Any]) -> Any:
    """Return the solution of an instance: (n,) times to (n_variables, n) states."""
    function = derivative(instance)
    solved = solve_ivp(
        lambda _, state: function(state),
        (0, instance["end"]),
        instance["start"],
        method="DOP853",
        rtol=EXACT,
        atol=EXACT * RELATIVE_TO_ABSOLUTE,
        dense_output=True,
    )
    return solved.sol


def compute_costs(prepared: list[Prepared], decisions: list[Any]) -> tuple[list[float], np.ndarray]:
    """Return the work of each integration, and its moves: how large its steps are at which time.

    A decision is the size of each step after the first one. The work is the number of evaluations of the derivative
    that a method of order 5 takes for an error of one tolerance: the evaluations times the fifth root of the error.
    Raises Refused as integrated does, and for steps beyond the end.
    """
    costs, moves, n_before = [], [], 0
    for number, ((instance, exact), decision) in enumerate(zip(prepared, decisions, strict=True)):
        solution = integrated(instance, replay(decision))
        if len(solution.steps) != len(decision) + 1:
            raise Refused("infeasible", f"instance {number}: steps after the end")
        costs.append(solution.n_evaluations * error_of(solution, exact, instance["tolerance"]) ** (1 / ORDER))
        moves.append(n_before + moves_of(solution, instance["end"]))
        n_before += N_TIMES * N_SIZES
    return costs, np.concatenate(moves)


def error_of(solution: Solution, exact: Any, tolerance: float) -> float:
    """Return the root mean square of a solution's error over time, in tolerances.

    The error of a variable is relative to its largest value, not to that of the moment: near zeros it would be chance.
    """
    states = exact(solution.times).T
    errors = (solution.states - states) / (tolerance * np.abs(states).max(axis=0))
    steps = np.diff(solution.times)
    return float(np.sqrt(steps @ np.square(errors[1:]).mean(axis=1) / steps.sum()))


def moves_of(solution: Solution, end: float) -> np.ndarray:
    """Return when each accepted step begins and how large it is, as one number."""
    times = (solution.times[:-1] / end * N_TIMES).astype(int)
    sizes = np.round(-4 * np.log2(np.diff(solution.times) / end)).astype(int)
    moves: np.ndarray = times * N_SIZES + np.clip(sizes, 0, N_SIZES - 1)
    return moves
