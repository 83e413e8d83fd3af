"""Steps side by side, each as soon as what it needs has ended."""

import time
from collections.abc import Callable
from functools import partial
from queue import Empty, Queue
from typing import Any, NamedTuple

from prefect import State
from prefect.futures import PrefectFuture

from graph import Step

POLL_S = 2.0  # between two looks at whether the run was cancelled
Submit = Callable[[Step, list[PrefectFuture[Any]]], PrefectFuture[Any]]


class Outcome(NamedTuple):
    """A step that has ended."""

    stage: str
    future: PrefectFuture[Any]
    seconds: float

    @property
    def state(self) -> State[Any]:
        """The state that the task run ended in."""
        return self.future.state


def schedule(
    steps: list[Step], earlier: list[Outcome], workers: int, submit: Submit, watch: Callable[[], None]
) -> list[Outcome]:
    """Run at most `workers` steps side by side, each as soon as what it needs has ended.

    Returns the outcomes of `earlier` and these steps, in the order in which they ended. submit: starts a step, given
    the futures of those that it needs. watch: called every POLL_S while no step ends, to stop what was cancelled.
    """
    futures = {outcome.stage: outcome.future for outcome in earlier}
    began: dict[str, float] = {}
    ends: Queue[tuple[str, float]] = Queue()
    outcomes = list(earlier)

    def note_end(stage: str, _: PrefectFuture[Any]) -> None:
        ends.put((stage, time.monotonic()))

    while len(outcomes) < len(earlier) + len(steps):
        for step in ready(steps, futures, outcomes)[: workers - len(futures) + len(outcomes)]:
            began[step.stage] = time.monotonic()
            futures[step.stage] = submit(step, [futures[stage] for stage in step.needs])
            futures[step.stage].add_done_callback(partial(note_end, step.stage))
        try:
            stage, end = ends.get(timeout=POLL_S)
            futures[stage].wait()  # from here on it holds its state
            outcomes.append(Outcome(stage, futures[stage], end - began[stage]))
        except Empty:
            watch()
    return outcomes


def ready(steps: list[Step], begun: dict[str, PrefectFuture[Any]], outcomes: list[Outcome]) -> list[Step]:
    """Return the steps that have not begun and whose needs have all ended."""
    ended = {outcome.stage for outcome in outcomes}
    return [step for step in steps if step.stage not in begun and ended.issuperset(step.needs)]
