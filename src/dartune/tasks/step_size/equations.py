"""Ordinary differential equations y' = f(y) of the numerical literature, mild enough for an explicit method.

Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I (1993); Hull et al., SIAM J. Numer. Anal. 9
(1972).
"""

from collections.abc import Callable, Mapping
from math import cos, hypot, pi, sin
from typing import NamedTuple

Range = tuple[float, float]


def predators(y: list[float], a: float, b: float) -> list[float]:
    """Lotka and Volterra's prey and predators."""
    return [a * y[0] - y[0] * y[1], y[0] * y[1] - b * y[1]]


def oscillator(y: list[float], mu: float) -> list[float]:
    """Van der Pol's oscillator."""
    return [y[1], mu * (1 - y[0] * y[0]) * y[1] - y[0]]


def orbit(y: list[float]) -> list[float]:
    """A body that circles another, fixed one."""
    cube = hypot(y[0], y[1]) ** 3
    return [y[2], y[3], -y[0] / cube, -y[1] / cube]


def brusselator(y: list[float], a: float, b: float) -> list[float]:
    """Prigogine's chemical oscillator."""
    autocatalysis = y[0] * y[0] * y[1]
    return [a + autocatalysis - (b + 1) * y[0], b * y[0] - autocatalysis]


def pendulum(y: list[float], damping: float, force: float) -> list[float]:
    """A damped pendulum that is driven; y[2] is the time."""
    return [y[1], -damping * y[1] - sin(y[0]) + force * cos(y[2]), 1.0]


def neuron(y: list[float], current: float, rate: float) -> list[float]:
    """FitzHugh and Nagumo's neuron, which fires from time to time."""
    return [y[0] - y[0] ** 3 / 3 - y[1] + current, rate * (y[0] + 0.7 - 0.8 * y[1])]


def rigid_body(y: list[float], a: float, b: float) -> list[float]:
    """Euler's equations of a body without forces."""
    return [a * y[1] * y[2], -b * y[0] * y[2], (b - a) * y[0] * y[1]]


def epidemic(y: list[float], infection: float, recovery: float) -> list[float]:
    """Shares of a population that are susceptible and infected (Kermack and McKendrick)."""
    infected = infection * y[0] * y[1]
    return [-infected, infected - recovery * y[1]]


class Equation(NamedTuple):
    """How an equation is drawn: parameters and initial values are uniform in their ranges."""

    derivative: Callable[..., list[float]]
    parameters: tuple[Range, ...]
    start: tuple[Range, ...]
    end: float  # time


EQUATIONS: Mapping[str, Equation] = {
    "predators": Equation(predators, ((1, 2), (0.5, 1.5)), ((0.5, 2), (0.5, 2)), 25),
    "oscillator": Equation(oscillator, ((1, 5),), ((1.5, 2.5), (-0.5, 0.5)), 12),
    "orbit": Equation(orbit, (), ((0.6, 1), (0, 0), (0, 0), (0.9, 1.2)), 2 * pi),
    "brusselator": Equation(brusselator, ((0.9, 1.2), (2.5, 3.5)), ((1, 2), (2, 4)), 15),
    "pendulum": Equation(pendulum, ((0.1, 0.3), (0.5, 1)), ((0, 2), (0, 1), (0, 0)), 15),
    "neuron": Equation(neuron, ((0.4, 0.8), (0.06, 0.1)), ((-1, 1), (-0.5, 0.5)), 60),
    "rigid_body": Equation(rigid_body, ((1, 1.5), (2, 3)), ((0.1, 0.5), (0.8, 1.2), (0.5, 1)), 16),
    "epidemic": Equation(epidemic, ((1, 3), (0.2, 0.5)), ((0.9, 0.99), (0.001, 0.01)), 60),
}
