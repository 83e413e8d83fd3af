"""What a task gives away: answers that a program can read, and books that it can change.

The template runs in this process, as it is the task's own program; nothing else does.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from dartune.programs.decisions import decode, encode
from dartune.tasks.contract import time_limit
from dartune.tasks.task import Task, decisions_on, frozen, online_key

SPLIT = "validation"
N_INSTANCES = 2
AS_GOOD = 0.999  # of the reference's quality
EQUAL = 1e-9  # relative
MIN_PART = 8  # different numbers that are the items' by no chance
SMALL = 1000  # integers below are too common to be told apart from a reference
Program = Callable[..., Any]


def gifts(task: Task) -> Iterator[str]:
    """Yield what the task gives away, each in one line."""
    instances = [frozen(instance) for instance in task.instances(SPLIT)[:N_INSTANCES]]
    template = function_of(task)
    yield from answers_in_sight(task, instances, template)
    yield from costs_from_within(task, instances, template)
    yield from open_books(task, instances, template)
    yield from future_in_sight(task, instances[0])


def function_of(task: Task) -> Program:
    """Return the template's function."""
    scope: dict[str, Any] = {}
    exec(compile(task.template, "template.py", "exec"), scope)  # the task's own program, as trusted as its cost.py
    program: Program = scope[task.function]
    return program


def decisions_of(task: Task, instance: dict[str, Any], program: Program) -> list[Any]:
    """Return what a program decides on an instance. Raises what the task's code raises, and TimeoutError."""
    with time_limit():
        (decisions,) = decisions_on([instance], task.rollout, program)
    return decisions


def arguments_of(task: Task, instance: dict[str, Any], program: Program) -> list[tuple[Any, ...]]:
    """Return copies of the arguments of each call of the program on an instance."""
    calls: list[tuple[Any, ...]] = []

    def noting(*arguments: Any) -> Any:
        """Call the program."""
        calls.append(copy.deepcopy(arguments))
        return program(*arguments)

    decisions_of(task, instance, noting)
    return calls


def answers_in_sight(task: Task, instances: list[dict[str, Any]], program: Program) -> Iterator[str]:
    """Yield instances' values and arguments that are a reference or a solution as good as one."""
    for number, instance in enumerate(instances):
        seen = {f"instance[{name!r}]": value for name, value in instance.items()}
        first = arguments_of(task, instance, program)[0]
        seen |= {f"argument {i + 1}": value for i, value in enumerate(first)}
        for name, value in seen.items():
            if is_reference(task, number, value):
                yield f"{name} of {SPLIT}'s instance {number} is its reference, which programs can read"
            elif is_solution(task, instance, value):
                yield f"{name} of {SPLIT}'s instance {number} is a solution as good as the reference"


def reference_of(task: Task, number: int) -> float | None:
    """Return the reference of an instance, None where the split has a single one for all."""
    values = task.references(SPLIT)
    return values[number] if len(values) > 1 else None


def is_reference(task: Task, number: int, value: Any) -> bool:
    """Return whether a value is the instance's reference, a single number that is no small integer."""
    reference = reference_of(task, number)
    if (
        reference is None
        or reference in range(SMALL)
        or np.size(value) != 1
        or np.asarray(value).dtype.kind not in "if"
    ):
        return False
    return math.isclose(float(np.asarray(value).ravel()[0]), reference, rel_tol=EQUAL)


def is_solution(task: Task, instance: dict[str, Any], value: Any) -> bool:
    """Return whether a list of numbers, taken for decisions, is about as good as the reference."""
    array = np.asarray(value) if isinstance(value, list | tuple | np.ndarray) else None
    if array is None or array.ndim != 1 or array.dtype.kind not in "if" or not len(array):
        return False
    cost = cost_of(task, instance, array.tolist())
    return cost is not None and cost > 0 and task.quality(task.score([cost]), SPLIT) >= AS_GOOD


def cost_of(task: Task, instance: dict[str, Any], decisions: list[Any]) -> float | None:
    """Return the cost of decisions on an instance, None where they are refused, or not even that."""
    try:
        arrays = decode(encode([decisions]), 1)
        with time_limit():
            return float(task.cost.compute_costs(task.cost.prepare([instance]), arrays)[0][0])
    except Exception:  # Refused, or whatever the task's code raises on what are no decisions of its own
        return None


def costs_from_within(task: Task, instances: list[dict[str, Any]], program: Program) -> Iterator[str]:
    """Yield whether a cost is what the rollout returned, where programs are: it must come from decisions."""
    for instance in instances:
        decisions = decisions_of(task, instance, program)
        if len(decisions) != 1:
            continue
        cost, half = (cost_of(task, instance, values) for values in (decisions, [decisions[0] / 2]))
        if cost and half and math.isclose(cost, abs(decisions[0])) and math.isclose(half, cost / 2):
            yield "cost.py takes the cost that rollout.py returned, and programs share its process: return decisions"
            return


def open_books(task: Task, instances: list[dict[str, Any]], program: Program) -> Iterator[str]:
    """Yield whether what a program writes to its arguments changes later calls."""
    for instance in instances:
        expected = decisions_of(task, copy.deepcopy(instance), program)
        try:
            decisions = decisions_of(task, frozen(copy.deepcopy(instance)), vandal(program))
        except Exception as error:  # whatever the task's code raises on spoilt books
            yield f"a program that writes to its arguments breaks run(): {type(error).__name__}: {error}; pass copies"
            return
        if list(decisions) != list(expected):
            yield "a program that writes to its arguments changes what run() makes of its choices; pass copies"
            return


def vandal(program: Program) -> Program:
    """Return a program that chooses as the given one does, and then spoils all that it can write to."""

    def choose_and_spoil(*arguments: Any) -> Any:
        """Return the program's choice."""
        choice = copy.deepcopy(program(*copy.deepcopy(arguments)))
        for argument in arguments:
            if isinstance(argument, np.ndarray) and argument.flags.writeable:
                argument[...] = 0
            elif isinstance(argument, list | dict | set):
                argument.clear()
        return choice

    return choose_and_spoil


def future_in_sight(task: Task, instance: dict[str, Any]) -> Iterator[str]:
    """Yield what an online task's instance tells of items that are revealed later.

    rollout.py gets the number of items in their place, so it can know them only from another value of the instance.
    """
    key = online_key(task.rollout)
    if key is None:
        return
    items = instance[key]
    for name, value in instance.items():
        values = np.ravel(value) if name != key and isinstance(value, np.ndarray) else np.empty(0)
        forms = (values, np.diff(values, prepend=0)) if values.dtype.kind in "iuf" else ()  # and their sums so far
        if any(tells(form, items) for form in forms):
            yield f"instance[{name!r}] has the numbers of {key}, which are revealed one by one"


def tells(values: np.ndarray, items: np.ndarray) -> bool:
    """Return whether values (m,) are the items (n,) in any order, or a part of them in theirs, up to their scale."""
    if values.shape == items.shape and np.allclose(np.sort(values), np.sort(items)):
        return True
    if len(values) > len(items) or len(np.unique(values)) < MIN_PART:
        return False
    parts = [np.sort(items)] if len(values) == len(items) else sliding_window_view(items, len(values))
    sought = scaled(np.sort(values) if len(values) == len(items) else values)
    return any(np.allclose(sought, scaled(part)) for part in parts)


def scaled(values: np.ndarray) -> np.ndarray:
    """Return values (n,) from 0 to 1."""
    shares: np.ndarray = (values - values.min()) / (np.ptp(values) or 1.0)
    return shares
