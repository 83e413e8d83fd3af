"""An explicit Runge-Kutta pair of orders 5 and 4 whose step sizes somebody else chooses.

Dormand and Prince, J. Comp. Appl. Math. 6 (1980), with the error norm and the acceptance of scipy.integrate.RK45: with
the same controller it takes the same steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dartune.programs.verdict import Refused
from dartune.tasks.step_size.equations import EQUATIONS

STAGES = (  # of the slope at the start, and of those before each stage; the last is the step itself
    np.array([1 / 5]),
    np.array([3 / 40, 9 / 40]),
    np.array([44 / 45, -56 / 15, 32 / 9]),
    np.array([19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729]),
    np.array([9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656]),
    np.array([35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84]),
)
ERROR = np.array([-71 / 57600, 0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40])
RELATIVE_TO_ABSOLUTE = 1e-3  # the absolute tolerance beside the relative one
MAX_STEPS = 2000  # tried
MIN_STEP = 1e-10  # beside the whole time


class Trial(NamedTuple):
    """What is known after a step was tried."""

    step: float  # its size
    error: float  # its estimated error, in tolerances: up to 1 it is accepted (below, as in scipy)
    previous_step: float  # of the last step that was accepted before, 0 without one
    previous_error: float
    n_rejected: int  # tries of this step that were rejected before, one after the other


class Solution(NamedTuple):
    """The accepted points."""

    times: np.ndarray  # (n,)
    states: np.ndarray  # (n, n_variables)
    n_evaluations: int  # of the derivative
    steps: list[tuple[float, bool]]  # each that was tried, and whether it was accepted


def integrated(instance: dict[str, Any], next_step: Callable[[Trial], float]) -> Solution:
    """Return the solution of an instance (see instances.py) by the steps that next_step chooses after each trial.

    The last step ends at the end. Raises Refused for a step that is no positive number or too small, and for more than
    MAX_STEPS of them.
    """
    function, end = derivative(instance), instance["end"]
    time, state, step = 0.0, instance["start"], instance["first_step"]
    slope = function(state)
    previous_step = previous_error = 0.0
    n_rejected, n_evaluations = 0, 1
    times, states, steps = [time], [state], list[tuple[float, bool]]()
    while time < end:
        if len(steps) == MAX_STEPS:
            raise Refused("infeasible", f"over {MAX_STEPS} steps were tried")
        step = min(step, end - time)
        reached, slopes = stepped(function, state, slope, step)
        n_evaluations += len(STAGES)
        error = estimate(state, reached, slopes, step, instance["tolerance"])
        trial = Trial(step, error, previous_step, previous_error, n_rejected)
        accepted = error < 1
        steps.append((step, accepted))
        if accepted:
            time = end if step >= end - time else time + step
            state, slope = reached, slopes[-1]
            previous_step, previous_error, n_rejected = step, error, 0
            times.append(time)
            states.append(state)
        else:
            n_rejected += 1
        if time < end:
            step = checked(next_step(trial), end)
    return Solution(np.array(times), np.array(states), n_evaluations, steps)


def derivative(instance: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function of an instance's equation."""
    function, parameters = EQUATIONS[instance["equation"]].derivative, instance["parameters"].tolist()

    def slope(state: np.ndarray) -> np.ndarray:
        try:
            return np.array(function(state.tolist(), *parameters))
        except (ArithmeticError, ValueError):  # far off, where a function of math has no value
            return np.full(len(state), np.nan)

    return slope


def stepped(
    function: Callable[[np.ndarray], np.ndarray], state: np.ndarray, slope: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the state after a step, and the slopes (7, n) of its stages, the last of which is that at its end."""
    slopes = np.empty((len(STAGES) + 1, len(state)))
    slopes[0] = slope
    with np.errstate(all="ignore"):  # a step that is far too large is rejected for its error
        for i, weights in enumerate(STAGES, 1):
            reached = state + step * (weights @ slopes[:i])
            slopes[i] = function(reached)
    return reached, slopes


def estimate(state: np.ndarray, reached: np.ndarray, slopes: np.ndarray, step: float, tolerance: float) -> float:
    """Return the estimated error of a step, in tolerances; infinite where it left the numbers."""
    scale = tolerance * (RELATIVE_TO_ABSOLUTE + np.maximum(np.abs(state), np.abs(reached)))
    with np.errstate(all="ignore"):
        error = float(np.linalg.norm(step * (ERROR @ slopes) / scale)) / len(state) ** 0.5
    return error if np.isfinite(error) else np.inf


def checked(step: Any, end: float) -> float:
    """Return a step that a program chose as a number. Raises Refused as integrated does."""
    try:
        size = float(step)
    except (TypeError, ValueError):
        raise Refused("output", "expected a number, the size of the next step") from None
    if not np.isfinite(size):
        raise Refused("nonfinite", f"a step is {size}")
    if size < MIN_STEP * end:
        raise Refused("infeasible", f"a step is {size:.3g}, too small")
    return size


def replay(decisions: np.ndarray) -> Callable[[Trial], float]:
    """Return a next_step that gives the steps that a program chose. It raises Refused if they end too early."""
    if len(decisions) and decisions.dtype.kind != "f":
        raise Refused("output", "expected numbers, the size of each step")
    steps = iter(decisions.tolist())

    def next_step(_: Trial) -> float:
        for step in steps:
            return float(step)
        raise Refused("infeasible", "the steps end before the end")

    return next_step
