"""Step sizes: the steps of scipy's own method, work that is measured at equal error, refusals."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from references import CONTROLLERS, controller
from scipy.integrate import RK45

from dartune.programs.verdict import Refused
from dartune.tasks.step_size.cost import compute_costs, prepare
from dartune.tasks.step_size.instances import HELD_OUT, SPLITS, draw, problem
from dartune.tasks.step_size.integration import RELATIVE_TO_ABSOLUTE, Trial, derivative, integrated
from dartune.tasks.step_size.rollout import run
from dartune.tasks.step_size.template import next_step
from dartune.tasks.task import Task

TASK = Task("step_size")


def by_template(trial: Trial) -> float:
    return next_step(*trial)


def by_scipy(instance: dict[str, Any]) -> RK45:
    """An integration of scipy's, at its end."""
    slope, tolerance = derivative(instance), instance["tolerance"]
    solver = RK45(
        lambda _, state: slope(state),
        0,
        instance["start"],
        instance["end"],
        first_step=instance["first_step"],
        rtol=tolerance,
        atol=tolerance * RELATIVE_TO_ABSOLUTE,
    )
    while solver.status == "running":
        solver.step()
    return solver


@pytest.mark.parametrize("split", ["train", "shifted_equations"])
def test_the_template_is_scipys_controller(split: str) -> None:
    for instance in draw(split):
        scipys, ours = by_scipy(instance), integrated(instance, by_template)
        assert ours.n_evaluations == scipys.nfev
        assert ours.times[-1] == scipys.t == instance["end"]
        assert ours.states[-1] == pytest.approx(scipys.y, rel=1e-9)


def test_twice_the_steps_of_a_fixed_size_are_as_much_work() -> None:
    # the error falls with the fifth power of the number of steps
    instance = problem("rigid_body", 1e-2, np.random.RandomState(3))
    works = []
    for n_steps in (400, 800):
        sizes = np.full(n_steps, instance["end"] / n_steps)
        fixed = {**instance, "first_step": sizes[0]}
        works.append(compute_costs(prepare([fixed]), [sizes[: len(run(lambda *_, s=sizes: s[0], fixed))]])[0][0])
    assert works[1] == pytest.approx(works[0], rel=0.1)


def test_the_reference_of_an_instance_is_below_all_controllers_of_the_grid() -> None:
    instances = draw("train")
    prepared = prepare(instances)
    for settings in product(CONTROLLERS[0][2:], CONTROLLERS[1][2:], (0.04,), (10.0,)):
        sizes = [np.array(run(controller(*settings), instance)) for instance in instances]
        costs = compute_costs(prepared, sizes)[0]
        assert all(a >= b * (1 - 1e-6) for a, b in zip(costs, TASK.references("train"), strict=True))


def test_held_out_equations_are_in_no_other_split() -> None:
    for split, this in SPLITS.items():
        assert split == "shifted_equations" or not {*this.equations} & {*HELD_OUT}


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (lambda *_: 0.0, "a step is 0, too small"),
        (lambda *_: -1.0, "a step is -1, too small"),
        (lambda *_: float("nan"), "a step is nan"),
        (lambda *_: None, "expected a number"),
        (lambda *_: 1e-6, "over 2000 steps were tried"),
        (lambda *_: 1e300, "over 2000 steps were tried"),
    ],
)
def test_steps_that_lead_nowhere_are_refused(program: Callable[..., Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        run(program, draw("train")[1])


@pytest.mark.parametrize("change", [lambda sizes: sizes[:-1], lambda sizes: np.append(sizes, 0.1)])
def test_more_or_fewer_steps_than_lead_to_the_end_are_refused(change: Callable[[np.ndarray], np.ndarray]) -> None:
    instances = draw("train")[:1]
    sizes = np.array(run(next_step, instances[0]))
    with pytest.raises(Refused, match="end"):
        compute_costs(prepare(instances), [change(sizes)])
