"""What a task's folder must hold. A mistake is named here in one line, before anything is paid for.

The protocols are for type checkers: `held: Rollout = my_task.rollout` holds a module against one.
"""

import ast
import json
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from inspect import isgenerator, isgeneratorfunction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import dartune.tasks
from dartune.errors import UserError
from dartune.programs.decisions import decode, encode
from dartune.programs.online import MAX_MESSAGE, Decisions
from dartune.programs.verdict import Refused
from dartune.tasks.task import PROMPT, Task, WrongCosts, add_folders, decisions_on, frozen, online_key

Arrays = dict[str, Any]  # an instance: arrays, and whatever else the rollout takes


class Instances(Protocol):
    """Module instances.py. SPLITS: its keys are the splits. SHIFTED: those of another size."""

    @property
    def SPLITS(self) -> Mapping[str, Any]: ...
    @property
    def SHIFTED(self) -> tuple[str, ...]: ...
    def draw(self, split: str) -> list[Arrays]:
        """Return the instances of a split, the same at every call."""


class Rollout(Protocol):
    """Module rollout.py, which runs in the sandbox. FUNCTION: the name of the program's function."""

    FUNCTION: str
    N_ARGUMENTS: int

    # ONLINE: str, of an online task: the key of an instance's items, an array (n,). Its run() gets their number instead
    # and yields None, then the decision on each item that it is sent.

    def run(self, program: Callable[..., Any], instance: Arrays) -> list[int] | list[float] | Decisions:
        """Return what the program decides on an instance. Raises Refused for what is not allowed."""


class Cost(Protocol):
    """Module cost.py, which runs outside of the sandbox. DIRECTION: one of DIRECTIONS."""

    DIRECTION: str
    OBJECTIVE: str

    # FORGEABLE: True where costs come from the program's own process; the task's name then begins with PREFIX.

    def prepare(self, instances: list[Arrays]) -> Any:
        """Return whatever costs are computed from."""

    def compute_costs(self, prepared: Any, decisions: list[Any]) -> tuple[list[float], np.ndarray]:
        """Return the cost on each instance, and an array of moves. Raises Refused for decisions that do not hold."""


FILES = (PROMPT, "template.py", "instances.py", "rollout.py", "cost.py", "references.json")
NAMES: dict[str, dict[str, Any]] = {  # what each module defines, of which type
    "instances": {"SPLITS": Mapping, "SHIFTED": tuple, "draw": Callable},
    "rollout": {"FUNCTION": str, "N_ARGUMENTS": int, "run": Callable},
    "cost": {"DIRECTION": str, "OBJECTIVE": str, "prepare": Callable, "compute_costs": Callable},
}
REQUIRED = ("train", "validation", "test")
N_RUN = 2  # training instances that the template runs on
LIMIT_S = 60  # of a task's code, which may have a loop without an end
LARGEST = 1e300  # reference
MAX_WORDS = 300  # characters of what a task's code raises
IMPLAUSIBLE = 1.5  # times the reference's quality, which a template cannot reach on a few instances by chance
DIRECTIONS = ("minimise", "maximise")
MAX_INSTANCES = MAX_MESSAGE // 8  # of a split of an online task, whose next items are one message
PREFIX = "forgeable_"  # of the names of tasks whose scores programs can forge


def check_task(name: str) -> None:
    """Raise UserError about the first thing in a task's folder that is not as docs/task.md says.

    Runs the template on the first training instances, in this process: it is the task's own program. What takes longer
    than LIMIT_S is taken for a loop without an end.
    """
    add_folders()
    folders = [folder for path in dartune.tasks.__path__ if (folder := Path(path) / name).is_dir()]
    if folders and not any((folder / PROMPT).exists() for folder in folders):
        raise UserError(f"{readable(folders[0])}/{PROMPT}: missing or empty; expected {', '.join(FILES)}")
    if len(folders) > 1:
        raise UserError(
            f"tasks: {name} lies in {' and in '.join(str(folder.parent) for folder in folders)}; rename one"
        )
    task = Task(name)
    try:
        problem = next(problems(task), None)
    except Exception as error:  # whatever a task's code raises, or what no check below thought of
        problem = f": {described(error, task)}; see docs/task.md for what a task's files hold"
    if problem:
        raise UserError(f"{readable(task.folder)}/{' '.join(problem.split())}")


def readable(folder: Path) -> Path:
    """Return a folder's path as seen from the current folder, where it lies in that."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


class Endless(BaseException):
    """A task's code that does not end. `except Exception` in it does not catch this."""


@contextmanager
def task_code() -> Iterator[None]:
    """A block that runs a task's code: RuntimeError where that ends the process, TimeoutError where it does not end.

    In another thread than the main one there is no limit, and none where Python's own code, sum() say, does not return.
    """
    try:
        with alarm() if threading.current_thread() is threading.main_thread() else nullcontext():
            yield
    except Endless:
        raise TimeoutError(f"has not ended in {LIMIT_S} s") from None
    except SystemExit as error:
        raise RuntimeError(f"it ends the process: SystemExit: {error}") from error


@contextmanager
def alarm() -> Iterator[None]:
    """A block in which Endless is raised after LIMIT_S, and again each second, as a bare `except` catches it."""

    def expire(*_: Any) -> None:
        """Raise Endless."""
        raise Endless

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def problems(task: Task) -> Iterator[str]:
    """Yield what is wrong, as "FILE: what; what is expected". Later checks need that earlier ones found nothing."""
    yield from missing_files(task)
    yield from wrong_modules(task)
    yield from wrong_splits(task)
    yield from wrong_items(task)
    yield from wrong_seeds(task)
    yield from wrong_template(task)
    yield from wrong_references(task)
    yield from wrong_run(task)


def missing_files(task: Task) -> Iterator[str]:
    """Yield the files that are not there or empty."""
    if not task.name.isidentifier():
        yield f": {task.name!r} is no name of a Python package; expected letters, digits and _"
    for name in FILES:
        file = task.folder / name
        try:
            if not file.is_file() or not file.read_text().strip():
                yield f"{name}: missing or empty; expected {', '.join(FILES)}"
        except (OSError, UnicodeDecodeError) as error:
            yield f"{name}: cannot be read: {error}"


def wrong_modules(task: Task) -> Iterator[str]:
    """Yield modules that cannot be imported, and names that they lack."""
    for module, names in NAMES.items():
        try:
            with task_code():
                content = task.part(module)
        except Exception as error:  # whatever a task's code raises
            yield f"{module}.py: cannot be imported: {described(error, task)}"
            return
        if lacking := [name for name in names if not hasattr(content, name)]:
            yield f"{module}.py: lacks {', '.join(lacking)}; expected {', '.join(names)}"
            return
        for name, kind in names.items():
            if not isinstance(value := getattr(content, name), kind):
                yield f"{module}.py: {name} is {value!r}; expected a {kind.__name__}"
    if task.cost.DIRECTION not in DIRECTIONS:
        yield f"cost.py: DIRECTION is {task.cost.DIRECTION!r}; expected {' or '.join(DIRECTIONS)}"
    if is_forgeable(task) and not task.name.startswith(PREFIX):
        yield f"cost.py: FORGEABLE is True; the folder's name must begin with {PREFIX}, to say so wherever it stands"


def is_forgeable(task: Task) -> bool:
    """Return whether the task's costs come from the program's own process."""
    return bool(getattr(task.cost, "FORGEABLE", False))


def wrong_splits(task: Task) -> Iterator[str]:
    """Yield what is wrong with splits and the draws of those that are small."""
    if lacking := [name for name in REQUIRED if name not in task.splits]:
        yield f"instances.py: SPLITS lacks {', '.join(lacking)}; {', '.join(REQUIRED)} are needed"
    if unknown := set(task.shifted) - set(task.splits):
        yield f"instances.py: SHIFTED names {', '.join(sorted(unknown))}, which SPLITS has not"
    for split in small(task):
        try:
            with task_code():
                instances = task.instances(split)
        except Exception as error:
            yield f"instances.py: draw({split!r}) raises {described(error, task)}"
            return
        if not instances or not all(isinstance(instance, dict) for instance in instances):
            yield f"instances.py: draw({split!r}) returns no instances; expected a list of dictionaries"
        elif strange := {kind for instance in instances for kind in strange_kinds(instance)}:
            kinds = ", ".join(sorted(strange))
            yield f"instances.py: draw({split!r}) has {kinds} in an instance; expected arrays, numbers, texts, lists"


def strange_kinds(value: Any) -> set[str]:
    """Return the types in a value that are not of Python or NumPy, or are code: another process could not read them."""
    if isinstance(value, Mapping):
        value = list(value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return {kind for part in value for kind in strange_kinds(part)}
    is_plain = isinstance(value, int | float | complex | str | bytes | np.ndarray | np.generic | None)
    return set() if is_plain else {type(value).__name__}


def wrong_items(task: Task) -> Iterator[str]:
    """Yield what is wrong with the items of an online task."""
    if (key := online_key(task.rollout)) is None:
        return
    for split in small(task):
        instances = task.instances(split)
        if not isinstance(key, str) or any(key not in instance for instance in instances):
            yield f"rollout.py: ONLINE is {key!r}; expected one of an instance's keys, {', '.join(instances[0])}"
            return
        if not all(are_items(instance[key]) for instance in instances):
            yield f"instances.py: {split}: {key} of an online task is an array (n,) of finite numbers"
        if len(instances) > MAX_INSTANCES:
            yield f"instances.py: {split} has {len(instances)} instances; an online task's has {MAX_INSTANCES} at most"
    if not isgeneratorfunction(task.rollout.run):
        yield "rollout.py: run of an online task yields None, then the decision on each item that it is sent"


def are_items(values: Any) -> bool:
    """Return whether values are numbers that can be revealed one by one."""
    array = np.asarray(values)
    return array.ndim == 1 and len(array) > 0 and array.dtype.kind in "if" and bool(np.isfinite(array).all())


def wrong_seeds(task: Task) -> Iterator[str]:
    """Yield where the training instances differ from draw to draw."""
    if text_of(task.instances("train")) != text_of(task.instances("train")):
        yield "instances.py: draw('train') differs from call to call; draw from the split's own seed"


def small(task: Task) -> list[str]:
    """Return the splits but those that take long to draw, which begin with "large"."""
    return [split for split in task.splits if not str(split).startswith("large")]


def text_of(instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return instances in a form that can be compared, where NaN is NaN."""
    return [{key: pickle.dumps(value) for key, value in instance.items()} for instance in instances]


def wrong_template(task: Task) -> Iterator[str]:
    """Yield where template.py and rollout.py disagree."""
    try:
        body = ast.parse(task.template).body
    except SyntaxError as error:
        yield f"template.py: line {error.lineno}: {error.msg}"
        return
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    name, n = task.rollout.FUNCTION, task.rollout.N_ARGUMENTS
    if list(functions) != [name]:
        defined = ", ".join(functions) or "no function"
        yield f"template.py: defines {defined}; expected {name}, rollout.py's FUNCTION, alone"
        return
    arguments = functions[name].args
    if (n_arguments := len(arguments.posonlyargs + arguments.args)) != n:
        yield f"template.py: {name} takes {n_arguments} arguments; rollout.py's N_ARGUMENTS is {n}"


def wrong_references(task: Task) -> Iterator[str]:
    """Yield what references.json lacks: one positive number per instance, for each split."""
    try:
        content = json.loads((task.folder / "references.json").read_text())
    except ValueError as error:
        yield f"references.json: {error}"
        return
    for split in task.splits:
        values = content.get(split) if isinstance(content, dict) else None
        if not isinstance(values, list) or not values or not all(is_positive(value) for value in values):
            yield f"references.json: {split}: expected a list of positive numbers, the best known of each instance"
        elif split in small(task) and len(values) not in (1, n := len(task.instances(split))):
            yield f"references.json: {split} has {len(values)} numbers for {n} instances"
    if unknown := set(content) - set(task.splits):
        yield f"references.json: {', '.join(sorted(unknown))}: no split of instances.py"


def is_positive(value: Any) -> bool:
    """Return whether a value is a number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < LARGEST


def wrong_run(task: Task) -> Iterator[str]:
    """Yield what goes wrong when the template runs on the first training instances and is charged for it."""
    instances = [frozen(instance) for instance in task.instances("train")[:N_RUN]]
    try:
        with task_code():
            prepared = task.cost.prepare(instances)
    except Exception as error:
        yield f"cost.py: prepare(instances) raises {described(error, task)}"
        return
    scope: dict[str, Any] = {}
    try:
        with task_code():
            exec(compile(task.template, "template.py", "exec"), scope)  # the task's own program, trusted as its cost.py
            decisions = list(decisions_on(instances, task.rollout, scope[task.rollout.FUNCTION]))
    except StopIteration:
        yield "rollout.py: run of an online task ends; it yields a decision on each item, in a loop without an end"
        return
    except Exception as error:
        yield f"rollout.py: run(template, instance) raises {described(error, task)}"
        return
    try:
        arrays = decode(encode(decisions), len(instances))
    except (TypeError, ValueError, OverflowError, AttributeError, KeyError):
        kinds = kinds_of(decisions[0])
        yield f"rollout.py: run returned {kinds}; expected a list of integers, or of floats, of 64 bits"
        return
    yield from wrong_costs(task, prepared, arrays)


def kinds_of(decisions: Any) -> str:
    """Return in words what run returned."""
    if isgenerator(decisions):
        return "a generator, which is for an online task, with ONLINE"
    is_row = isinstance(decisions, list | tuple | np.ndarray)
    inside = sorted({type(value).__name__ for value in decisions}) if is_row else []
    return f"{type(decisions).__name__}{' of ' * bool(inside)}{' and '.join(inside)}"


def described(error: BaseException, task: Task) -> str:
    """Return an error in one line, and where in the task's folder it arose."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb((error.__cause__ or error).__traceback__)
    own = [frame for frame in frames if Path(frame.filename).parent == task.folder]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return " ".join(text[:MAX_WORDS].split()) + where


def wrong_costs(task: Task, prepared: Any, decisions: list[np.ndarray]) -> Iterator[str]:
    """Yield what goes wrong when the template is charged for its decisions."""
    try:
        with task_code():
            costs, _ = task.charged(prepared, decisions)
    except Refused as error:
        yield f"cost.py: refuses the template's decisions: {error}"
        return
    except WrongCosts as error:
        yield f"cost.py: compute_costs {error}"
        return
    except Exception as error:
        yield f"cost.py: compute_costs raises {described(error, task)}"
        return
    references = task.references("train")[: len(costs)]  # or one for all
    if not all(costs):
        yield f"cost.py: compute_costs gave {costs}; the template's costs are above 0"
    elif (quality := task.share(task.score(costs), sum(references) / len(references))) > IMPLAUSIBLE:
        yield f"references.json: the template is {quality:.3g} times as good as train's reference, the best known"
