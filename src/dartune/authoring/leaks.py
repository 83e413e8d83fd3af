"""What a task leaks: answers that a program can read, and state of the rollout that it can change.

The template runs in this process, as it is the task's own program; nothing else does.
"""

import copy
import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from dartune.programs.decisions import decode, encode
from dartune.programs.verdict import Refused
from dartune.tasks.contract import described, task_code
from dartune.tasks.task import Task, decisions_on, frozen, online_key

SPLIT = "validation"
N_INSTANCES = 2  # on which the template runs
SEED = 0  # of random numbers that the template draws, as the sandbox has one
AS_GOOD = 0.999  # of the reference's quality
EQUAL = 1e-9  # relative
MAX_SAME = 100  # decisions that are tried as all there are
TELLING = 0.3  # share of a value's numbers that are items
MIN_PART = 8  # different numbers that are the items' by no chance
SMALL = 1000  # integers below are too common to be told apart from a reference
Program = Callable[..., Any]


def leaks(task: Task) -> Iterator[str]:
    """Yield what the task leaks, each in one line."""
    every = [frozen(instance) for instance in task.instances(SPLIT)]
    instances, template = every[:N_INSTANCES], function_of(task)
    yield from visible_answers(task, every, template)
    yield from costs_of_the_rollout(task, instances, template)
    yield from unchecked_decisions(task, instances[0], template)
    yield from shared_state(task, instances, template)
    yield from visible_future(task, instances)


def function_of(task: Task) -> Program:
    """Return the template's function."""
    scope: dict[str, Any] = {}
    exec(compile(task.template, "template.py", "exec"), scope)  # the task's own program, as trusted as its cost.py
    program: Program = scope[task.function]
    return program


def decisions_of(task: Task, instance: dict[str, Any], program: Program) -> list[Any]:
    """Return what a program decides on an instance. Raises what the task's code raises, and TimeoutError."""
    random.seed(SEED)
    np.random.seed(SEED)
    with task_code():
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


def visible_answers(task: Task, instances: list[dict[str, Any]], program: Program) -> Iterator[str]:
    """Yield instances' values and arguments that are a reference or a solution as good as one, each name once."""
    found: dict[str, str] = {}
    for number, instance in enumerate(instances):
        seen = {f"instance[{name!r}]": value for name, value in instance.items()}
        if number < N_INSTANCES:
            first = arguments_of(task, instance, program)[0]
            seen |= {f"argument {i + 1}": value for i, value in enumerate(first)}
        for name, value in seen.items():
            if is_reference(task, number, value):
                found.setdefault(name, f"of {SPLIT}'s instance {number} is its reference, which programs can read")
            elif is_solution(task, number, instance, value):
                found.setdefault(name, f"of {SPLIT}'s instance {number} is a solution as good as the reference")
    yield from (f"{name} {text}" for name, text in found.items())


def reference_of(task: Task, number: int) -> float | None:
    """Return the reference of an instance, None where the split has a single one for all."""
    values = task.references(SPLIT)
    return values[number] if len(values) > 1 else None


def is_reference(task: Task, number: int, value: Any) -> bool:
    """Return whether a value is or holds the instance's reference, which is no small integer."""
    reference, numbers = reference_of(task, number), numbers_of(value)
    if reference is None or reference in range(SMALL):
        return False
    return bool(np.isclose(numbers, reference, rtol=EQUAL, atol=0).any())


def is_solution(task: Task, number: int, instance: dict[str, Any], value: Any) -> bool:
    """Return whether numbers, taken for decisions, are about as good as the instance's reference."""
    numbers = numbers_of(value)
    if not isinstance(value, Mapping | list | tuple | set | frozenset | np.ndarray) or not len(numbers):
        return False
    cost = cost_of(task, instance, numbers.tolist())
    if cost is None or cost <= 0:
        return False
    return task.share(task.score([cost]), reference_of(task, number) or task.reference(SPLIT)) >= AS_GOOD


def numbers_of(value: Any) -> np.ndarray:
    """Return the numbers (n,) of an array, or of lists, tuples, sets and dictionaries of them, in their order."""
    if isinstance(value, Mapping):
        value = list(value.values())
    elif isinstance(value, set | frozenset):
        value = sorted(value, key=repr)
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        array = np.empty(0, object)
    if array.dtype.kind in "iuf":
        return array.ravel()
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.ravel().tolist()
    parts = [numbers_of(part) for part in value] if isinstance(value, list | tuple) else []
    return np.concatenate(parts) if parts else np.empty(0, int)


def cost_of(task: Task, instance: dict[str, Any], decisions: list[Any]) -> float | None:
    """Return the cost of decisions on an instance, None where they are refused, or not even that."""
    try:
        arrays = decode(encode([decisions]), 1)
        with task_code():
            return float(task.cost.compute_costs(task.cost.prepare([instance]), arrays)[0][0])
    except Exception:  # Refused, or whatever the task's code raises on what are no decisions of its own
        return None


def costs_of_the_rollout(task: Task, instances: list[dict[str, Any]], program: Program) -> Iterator[str]:
    """Yield whether a cost is what the rollout returned, where programs are: it must come from decisions."""
    for instance in instances:
        decisions = decisions_of(task, instance, program)
        if len(decisions) != 1:
            continue
        cost, half = (cost_of(task, instance, values) for values in (decisions, [decisions[0] / 2]))
        if cost and half and math.isclose(cost, abs(decisions[0])) and math.isclose(half, cost / 2):
            yield "cost.py takes the cost that rollout.py returned, and programs share its process: return decisions"
            return


def unchecked_decisions(task: Task, instance: dict[str, Any], program: Program) -> Iterator[str]:
    """Yield whether cost.py fails on decisions that no honest run makes, or takes them for better than the reference.

    What a program's process returns as decisions need not come from rollout.py.
    """
    decisions = list(decisions_of(task, instance, program))
    prepared = task.cost.prepare([instance])
    for what, wrong in wrong_decisions(decisions):
        try:
            with task_code():
                (cost,), _ = task.charged(prepared, decode(encode([wrong]), 1))
        except Refused:
            continue
        except Exception as error:
            yield f"cost.py fails on decisions of which {what}: {described(error, task)}; raise Refused for them"
            return
        quality = task.share(task.score([cost]), reference_of(task, 0) or task.reference(SPLIT))
        if quality > 1 / AS_GOOD:
            yield f"cost.py accepts decisions of which {what}, and finds them {quality:.3g} times as good as the best"
            return


def wrong_decisions(decisions: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield decisions that are probably none, of the same type as these, with what is wrong with them."""
    kind = type(decisions[0]) if decisions else int
    yield "there are none", []
    yield "the last are missing", decisions[: len(decisions) // 2]
    yield "all are there twice", decisions + decisions
    yield "one is negative", [kind(-1), *decisions[1:]]
    yield "one is huge", [kind(10**15), *decisions[1:]]
    for value in dict.fromkeys(decisions[:MAX_SAME]):
        yield "all are the same", [value] * len(decisions)


def shared_state(task: Task, instances: list[dict[str, Any]], program: Program) -> Iterator[str]:
    """Yield whether what a program writes to its arguments changes later calls."""
    for instance in instances:
        expected, again = (list(decisions_of(task, copy.deepcopy(instance), program)) for _ in range(2))
        if expected != again:
            yield "run() decides otherwise on the same instance the second time: a clock, os.urandom, or kept state"
            return
        try:
            decisions = decisions_of(task, frozen(copy.deepcopy(instance)), overwriting(program))
        except Exception as error:  # whatever the task's code raises on overwritten arguments
            yield f"a program that writes to its arguments breaks run(): {type(error).__name__}: {error}; pass copies"
            return
        if list(decisions) != expected:
            yield "a program that writes to its arguments changes what run() makes of its choices; pass copies"
            return


def overwriting(program: Program) -> Program:
    """Return a program that chooses as the given one does, and then overwrites its arguments."""

    def choose_and_overwrite(*arguments: Any) -> Any:
        """Return the program's choice."""
        choice = copy.deepcopy(program(*copy.deepcopy(arguments)))
        for argument in arguments:
            overwrite(argument)
        return choice

    return choose_and_overwrite


def overwrite(value: Any) -> None:
    """Overwrite what is writeable of an argument: it, the values that it holds, the array that it is a view of."""
    if isinstance(value, np.ndarray):
        owner = value if value.flags.writeable else value.base
        if isinstance(owner, np.ndarray) and owner.flags.writeable:
            owner[...] = 0
    elif isinstance(value, tuple):
        for part in value:
            overwrite(part)
    elif isinstance(value, list | dict | set):
        value.clear()
    elif hasattr(value, "__dict__"):
        for part in vars(value).values():
            overwrite(part)


def visible_future(task: Task, instances: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what an online task's instances tell of items that are revealed later.

    rollout.py gets the number of items in their place, so it can know them only from another value of the instance.
    """
    key = online_key(task.rollout)
    names = {
        name: None  # each once
        for instance in instances
        for name, value in instance.items()
        if key is not None and name != key and any(tells(form, instance[key]) for form in forms_of(value))
    }
    for name in names:
        yield f"instance[{name!r}] has the numbers of {key}, which are revealed one by one"


def forms_of(value: Any) -> tuple[np.ndarray, ...]:
    """Return the numbers (n,) of a value, those between which it has the sums so far, and both negated."""
    values = numbers_of(value).astype(float)
    forms = (values, np.diff(values, prepend=0))
    return (*forms, *(-form for form in forms))


def tells(values: np.ndarray, items: np.ndarray) -> bool:
    """Return whether values (m,) are the items (n,) in any order, or a part of them in theirs, up to their scale.

    Or whether a good part of them are items, where those are no integers, which may be the same by chance.
    """
    if values.shape == items.shape and np.allclose(np.sort(values), np.sort(items)):
        return True
    if len(np.unique(values)) < MIN_PART:
        return False
    if (items % 1).any() and np.isin(values, items).mean() > TELLING:
        return True
    if len(values) > len(items):
        return False
    parts = [np.sort(items)] if len(values) == len(items) else sliding_window_view(items, len(values))
    sought = scaled(np.sort(values) if len(values) == len(items) else values)
    return any(np.allclose(sought, scaled(part)) for part in parts)


def scaled(values: np.ndarray) -> np.ndarray:
    """Return values (n,) from 0 to 1."""
    shares: np.ndarray = (values - values.min()) / (np.ptp(values) or 1.0)
    return shares
